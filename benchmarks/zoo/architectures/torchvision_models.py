"""Models of torchvision that timm does not have, or has otherwise; two of them with a segmentation head."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import segmentation

from ..architecture import Architecture, Variant, register
from ..images import CLASSES, classify, draw_image


def register_torchvision(
    name: str,
    family: str,
    middle: str,
    build: Callable[..., nn.Module],
    *,
    reduced: Callable[..., nn.Module] | None = None,
    predict: Callable[[nn.Module, dict[str, Tensor]], Tensor] = classify,
    **reductions: Any,
) -> None:
    """Registers a model of torchvision; the full one has its published arguments and 224x224 images.

    Args:
        name: Its name in the zoo.
        family: Its family.
        middle: Path of the middle module, in both sizes.
        build: Makes the full model.
        reduced: Makes the reduced model, where not `build` does.
        predict: Calls it.
        **reductions: Arguments that make the reduced model small.
    """

    def draw(side: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        return draw_image(side, batch, generator)

    small = Variant(partial(reduced or build, num_classes=CLASSES, **reductions), partial(draw, 64))
    register(Architecture(name, family, small, predict, middle, full=Variant(build, partial(draw, 224))))


def segment(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a segmentation network: logits [batch, classes, height, width]."""
    return network(inputs["image"])["out"]


def segmenter(build: Callable[..., nn.Module], *, trim: bool = False, num_classes: int = 21) -> nn.Module:
    """Makes a segmentation network on MobileNet v3; trimmed, without most of the blocks that keep the shape."""
    network = build(weights_backbone=None, num_classes=num_classes)
    for name in ("5", "6", "8", "9", "10", "14", "15") if trim else ():
        network.backbone[name] = nn.Identity()
    return network


def googlenet(*, trim: bool = False, num_classes: int = 1000) -> nn.Module:
    """Makes GoogLeNet; trimmed, without the blocks that keep the shape."""
    network = models.googlenet(aux_logits=False, init_weights=False, num_classes=num_classes)
    for name in ("inception4b", "inception4c", "inception5a") if trim else ():
        setattr(network, name, nn.Identity())
    return network


LRASPP = partial(segmenter, segmentation.lraspp_mobilenet_v3_large)
DEEPLAB = partial(segmenter, segmentation.deeplabv3_mobilenet_v3_large)
SHUFFLENET = partial(models.ShuffleNetV2, stages_repeats=[2, 2, 2], stages_out_channels=[24, 32, 48, 64, 64])

register_torchvision("squeezenet1_1", "SqueezeNet", "features.6", models.squeezenet1_1)
register_torchvision("shufflenet_v2", "ShuffleNet v2", "stage2", models.shufflenet_v2_x0_5, reduced=SHUFFLENET)
register_torchvision("googlenet", "Inception", "inception4a", googlenet, trim=True)
register_torchvision("lraspp", "segmentation", "backbone.4", LRASPP, predict=segment, trim=True)
register_torchvision("deeplabv3", "segmentation", "backbone.4", DEEPLAB, predict=segment, trim=True)
