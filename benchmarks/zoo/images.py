"""Helpers that register image classifiers."""

from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from .architecture import Architecture, Variant, register

CLASSES = 10


def draw_image(size: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws a batch of normalized images."""
    return {"image": torch.randn(batch, 3, size, size, generator=generator)}


def classify(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a classifier of images."""
    return network(inputs["image"])


def register_timm(
    name: str,
    family: str,
    middle: str,
    *,
    build: Callable[..., nn.Module] | None = None,
    trim: str | None = None,
    plain_attention: bool = False,
    size: int = 64,
    full_size: int = 224,
    fails: Mapping[str, str] | None = None,
    fixed_batch: Mapping[str, str] | None = None,
    **reductions: Any,
) -> None:
    """Registers a model of timm: reduced by keyword arguments, and full without them.

    Args:
        name: Its name in timm and in the zoo.
        family: Its family.
        middle: Path of the middle module, in both sizes.
        build: Makes the reduced model, where timm's function for the name does not let its arguments be overridden.
        trim: Path of the stages whose repeated blocks are left out of the reduced model.
        plain_attention: Writes attention out as products and a softmax, where an exporter cannot translate torch's function.
        size: Side of the reduced model's images.
        full_size: Side of the full model's images.
        fails: See Architecture.
        fixed_batch: See Architecture.
        **reductions: Arguments of `build` that make the model small.
    """

    def full() -> nn.Module:
        return rewrite(timm.create_model(name, pretrained=False))

    def rewrite(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if plain_attention and hasattr(module, "fused_attn"):
                module.fused_attn = False
        return network

    def reduced() -> nn.Module:
        if build is None:
            network = timm.create_model(name, pretrained=False, num_classes=CLASSES, **reductions)
        else:
            network = build(num_classes=CLASSES, **reductions)
        if trim is not None:
            leave_out_repetitions(network.get_submodule(trim))
        return rewrite(network)

    register(
        Architecture(
            name,
            family,
            Variant(reduced, lambda batch, generator: draw_image(size, batch, generator)),
            classify,
            middle,
            full=Variant(full, lambda batch, generator: draw_image(full_size, batch, generator)),
            fails=fails or {},
            fixed_batch=fixed_batch or {},
        )
    )


def leave_out_repetitions(stages: nn.Module) -> None:
    """Keeps of every stage its first block (which changes the shape) and one more of each class of block."""
    for name, stage in stages.named_children():
        first, *others = stage.children()
        one_of_each = {type(block): block for block in reversed(others)}
        setattr(stages, name, nn.Sequential(first, *(block for block in others if block in one_of_each.values())))
