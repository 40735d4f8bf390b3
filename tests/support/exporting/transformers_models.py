"""Architectures of transformers in a size that two cores like, with seeded weights: five families, and what goes in."""

from functools import partial

import torch
from zoo.libraries import hide_kernels_from_transformers
from zoo.randomize import randomize

hide_kernels_from_transformers()

import transformers as hf  # noqa: E402

CLASSES = 5
IMAGE = {"pixel_values": (3, 32, 32)}
TEXT = {"inputs_embeds": (12, 32), "attention_mask": (12,)}

_TEXT = {"vocab_size": 50, "max_position_embeddings": 32}
_BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ARCHITECTURES = {
    "resnet": (
        hf.ResNetForImageClassification,
        partial(hf.ResNetConfig, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        IMAGE,
    ),
    "mobilenet": (hf.MobileNetV2ForImageClassification, partial(hf.MobileNetV2Config, depth_multiplier=0.25), IMAGE),
    "convnext": (
        hf.ConvNextForImageClassification,
        partial(hf.ConvNextConfig, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1]),
        IMAGE,
    ),
    "vit": (hf.ViTForImageClassification, partial(hf.ViTConfig, image_size=32, patch_size=8, **_BLOCKS), IMAGE),
    "bert": (hf.BertForSequenceClassification, partial(hf.BertConfig, **_TEXT, **_BLOCKS), TEXT),
}
"""By name: the class, its configuration, and the shapes of its inputs without the batch."""


def draw(name: str, samples: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs: float32, but for the mask, which hides the end of each text."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {key: torch.randn(samples, *shape, generator=generator) for key, shape in ARCHITECTURES[name][2].items()}
    if "attention_mask" in inputs:
        inputs["attention_mask"] = (torch.arange(12) < torch.arange(6, 6 + samples)[:, None]).long()
    return inputs


def make(name: str) -> torch.nn.Module:
    """An architecture whose every number matters to a gradient."""
    cls, config, _ = ARCHITECTURES[name]
    network = cls(config(num_labels=CLASSES)).eval()
    inputs = draw(name, 8, seed=1)
    randomize(network, lambda: network(**inputs), seed=0)
    return network
