"""Encoders of speech from transformers."""

from functools import partial

import torch
import transformers as hf
from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ..architecture import Architecture, Variant, register

WHISPER = {"num_mel_bins": 16, "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
WAV2VEC2 = {
    "vocab_size": 17,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def draw_normal(name: str, shape: tuple[int, ...], batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws an input from the normal distribution."""
    return {name: torch.randn(batch, *shape, generator=generator)}


def encode(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls an encoder."""
    return network(**inputs).last_hidden_state


def transcribe(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a model with a CTC head."""
    return network(**inputs).logits


register(
    Architecture(
        "whisper_encoder",
        "Whisper encoder",
        Variant(
            lambda: WhisperEncoder(hf.WhisperConfig(max_source_positions=20, **WHISPER)),
            partial(draw_normal, "input_features", (16, 40)),
        ),
        encode,
        "layers.1",
        full=Variant(lambda: WhisperEncoder(hf.WhisperConfig()), partial(draw_normal, "input_features", (80, 3000))),
        wrt="input_features",
    )
)
for flavour, norm, stable in (("", "group", False), ("_stable", "layer", True)):
    extra = {"feat_extract_norm": norm, "do_stable_layer_norm": stable, "conv_bias": stable}
    register(
        Architecture(
            f"wav2vec2{flavour}",
            "wav2vec2",
            Variant(
                partial(lambda extra: hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**WAV2VEC2, **extra)), extra),
                partial(draw_normal, "input_values", (400,)),
            ),
            transcribe,
            "wav2vec2.encoder.layers.0",
            full=Variant(
                partial(lambda extra: hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**extra)), extra),
                partial(draw_normal, "input_values", (16000,)),
            ),
            wrt="input_values",
        )
    )
