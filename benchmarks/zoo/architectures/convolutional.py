"""Convolutional networks without the plain residual block: VGG, Inception, DenseNet and others."""

from typing import Any

import timm
from timm.models.convmixer import ConvMixer
from timm.models.focalnet import FocalNet
from timm.models.vgg import VGG
from torch import nn

from ..images import register_timm

VGG_LAYERS = {"cfg": (16, "M", 24, "M", 32, 32, "M", 48), "mlp_ratio": 0.03}
NARROW = {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64)}


def inception_v3(**arguments: Any) -> nn.Module:
    """Makes Inception v3 without the blocks that repeat the one before them."""
    network = timm.create_model("inception_v3", pretrained=False, **arguments)
    for name in ("Mixed_5d", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7c"):
        setattr(network, name, nn.Identity())
    return network


def inception_v4(**arguments: Any) -> nn.Module:
    """Makes Inception v4 with one of each of its kinds of block."""
    network = timm.create_model("inception_v4", pretrained=False, **arguments)
    blocks, repeated = list(network.features), ("InceptionA", "InceptionB", "InceptionC")
    kept = [
        block
        for previous, block in zip([None, *blocks], blocks, strict=False)
        if type(block) is not type(previous) or type(block).__name__ not in repeated
    ]
    network.features = nn.Sequential(*kept)
    return network


register_timm("vgg11", "VGG", "features.4", build=VGG, **VGG_LAYERS)
register_timm("vgg11_bn", "VGG", "features.6", build=VGG, norm_layer=nn.BatchNorm2d, **VGG_LAYERS)
register_timm("inception_v3", "Inception", "Mixed_5c", build=inception_v3, size=80, full_size=299)
register_timm("inception_v4", "Inception", "features.6", build=inception_v4, size=75, full_size=299)
register_timm("densenet121", "DenseNet", "features.denseblock2", growth_rate=8, block_config=(2, 2, 2, 2))
register_timm("repvgg_a0", "RepVGG", "stages.1", trim="stages", size=32)
register_timm("hrnet_w18_small", "HRNet", "layer1")
register_timm("convmixer_768_32", "ConvMixer", "blocks.1", build=ConvMixer, dim=32, depth=3)
register_timm("inception_next_tiny", "InceptionNeXt", "stages.1", **NARROW)
register_timm("convnext_tiny", "ConvNeXt", "stages.1", **NARROW)
register_timm("convnextv2_tiny", "ConvNeXt v2", "stages.1", **NARROW)
register_timm("focalnet_tiny_srf", "FocalNet", "layers.1", build=FocalNet, depths=(1, 1, 1, 1), embed_dim=16)
