"""Residual networks of convolutions."""

from ..images import register_timm

SMALL = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48)}

register_timm("resnet18", "ResNet", "layer2", **SMALL)
register_timm("resnet50", "ResNet", "layer2", layers=(2, 1, 1, 1), channels=(8, 16, 24, 32))
register_timm("resnet50d", "ResNet", "layer2", **SMALL)
register_timm("resnetblur50", "ResNet", "layer2", **SMALL)
register_timm("resnext50_32x4d", "ResNet", "layer2", cardinality=4, base_width=32, **SMALL)
register_timm("seresnet50", "ResNet", "layer2", **SMALL)
register_timm("ecaresnet50t", "ECA-ResNet", "layer2", **SMALL)
register_timm("resnetv2_50", "ResNet", "stages.1", layers=(1, 1, 1, 1), channels=(32, 48, 64, 96), stem_chs=16)
register_timm("res2net50_26w_4s", "Res2Net", "layer2", base_width=8, **SMALL)
register_timm("regnetx_002", "RegNet", "s2", depth=7)
register_timm("regnety_002", "RegNet", "s2", depth=7)
NFNET = {"depths": (1, 1, 1, 1), "channels": (64, 64, 96, 96), "stem_chs": 32, "group_size": 16}
register_timm("dm_nfnet_f0", "NFNet", "stages.1", **NFNET, full_size=192)
