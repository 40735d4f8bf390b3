"""Language models of transformers. The gradient is with respect to what the table of tokens gives."""

from functools import partial

import torch
import transformers as hf
from torch import Tensor, nn

from ..architecture import Architecture, Predict, Variant, register

VOCABULARY = 211
LENGTH = 12


def draw_tokens(vocabulary: int, length: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws tokens; 0 and 1, which some models take for padding, are not among them."""
    return {"input_ids": torch.randint(2, vocabulary, (batch, length), generator=generator)}


def draw_padded(vocabulary: int, length: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws tokens and a mask that hides the last few of them, another number in every sample."""
    lengths = torch.randint(length // 2, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length) < lengths).long()
    return {**draw_tokens(vocabulary, length, batch, generator), "attention_mask": mask}


def logits_of(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a model of transformers that has logits."""
    return network(**inputs).logits


def generate_nothing(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a decoder without its cache."""
    return network(**inputs, use_cache=False).logits


def pooled(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls an encoder and averages over positions."""
    return network(**inputs).last_hidden_state.mean(1)


def register_text(
    name: str,
    family: str,
    model: type[nn.Module],
    small: hf.PretrainedConfig,
    full: hf.PretrainedConfig,
    *,
    middle: str,
    embedding: str,
    predict: Predict = logits_of,
    padded: bool = False,
    fails: dict[str, str] | None = None,
) -> None:
    """Registers a language model from two configurations."""
    draw = draw_padded if padded else draw_tokens
    register(
        Architecture(
            name,
            family,
            Variant(lambda: model(small), partial(draw, VOCABULARY, LENGTH)),
            predict,
            middle,
            full=Variant(lambda: model(full), partial(draw, full.vocab_size, 128)),
            wrt="embedding",
            embedding=embedding,
            fails=fails or {},
        )
    )


BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
register_text(
    "bert",
    "BERT",
    hf.BertForSequenceClassification,
    hf.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, num_labels=5, **BERT),
    hf.BertConfig(),
    middle="bert.encoder.layer.1",
    embedding="bert.embeddings.word_embeddings",
    padded=True,
)
register_text(
    "bert_eager",
    "BERT",
    hf.BertForMaskedLM,
    hf.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, attn_implementation="eager", **BERT),
    hf.BertConfig(attn_implementation="eager"),
    middle="bert.encoder.layer.1",
    embedding="bert.embeddings.word_embeddings",
)
register_text(
    "distilbert",
    "DistilBERT",
    hf.DistilBertForSequenceClassification,
    hf.DistilBertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, dim=32, n_layers=3, n_heads=4, hidden_dim=64),
    hf.DistilBertConfig(),
    middle="distilbert.transformer.layer.1",
    embedding="distilbert.embeddings.word_embeddings",
    padded=True,
)
register_text(
    "roberta",
    "RoBERTa",
    hf.RobertaForSequenceClassification,
    hf.RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=32, num_labels=5, **BERT),
    hf.RobertaConfig(max_position_embeddings=514),
    middle="roberta.encoder.layer.1",
    embedding="roberta.embeddings.word_embeddings",
)
register_text(
    "gpt2",
    "GPT-2",
    hf.GPT2LMHeadModel,
    hf.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=3, n_head=4, bos_token_id=None, eos_token_id=None
    ),
    hf.GPT2Config(),
    middle="transformer.h.1",
    embedding="transformer.wte",
    predict=generate_nothing,
    padded=True,
)
LLAMA = {"num_key_value_heads": 2, "max_position_embeddings": 32}
register_text(
    "llama",
    "Llama",
    hf.LlamaForCausalLM,
    hf.LlamaConfig(vocab_size=VOCABULARY, **BERT, **LLAMA),
    hf.LlamaConfig(hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8),
    middle="model.layers.1",
    embedding="model.embed_tokens",
    predict=generate_nothing,
    padded=True,
)
register_text(
    "t5_encoder",
    "T5",
    hf.T5EncoderModel,
    hf.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu"
    ),
    hf.T5Config(),
    middle="encoder.block.1",
    embedding="encoder.embed_tokens",
    predict=pooled,
)
