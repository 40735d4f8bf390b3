"""Vision transformers, and their relatives, that keep one resolution."""

from timm.layers import GatedMlp
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from timm.models.volo import VOLO

from ..images import register_timm

TINY = {"img_size": 64, "embed_dim": 48, "depth": 3, "num_heads": 3}
MIXER = {"build": MlpMixer, "img_size": 64, "embed_dim": 32, "num_blocks": 3}
LEVIT = {"img_size": 64, "embed_dim": (32, 48, 64), "key_dim": 8, "num_heads": (2, 3, 4), "depth": (1, 1, 1)}
VOLO_STAGES = {"img_size": 64, "layers": (1, 1, 1, 1), "embed_dims": (32, 64, 64, 64), "num_heads": (2, 4, 4, 4)}
CROSSVIT = {"img_size": 60, "img_scale": (1.0, 64 / 60), "depth": ((1, 1, 0),), "embed_dim": (32, 48), "num_heads": (2, 2)}
FOLD = {"torchscript": "Col2Im is from opset 18, and there it needs constant sizes, which a trace has not"}

register_timm("vit_tiny_patch16_224", "ViT", "blocks.1", **TINY)
register_timm("deit_tiny_distilled_patch16_224", "DeiT", "blocks.1", **TINY)
register_timm("deit3_small_patch16_224", "DeiT", "blocks.1", **TINY)
register_timm("beit_base_patch16_224", "BEiT", "blocks.1", **TINY)
register_timm("beitv2_base_patch16_224", "BEiT", "blocks.1", **TINY)
register_timm("eva02_tiny_patch14_224", "EVA", "blocks.1", patch_size=16, **TINY)
register_timm("cait_xxs24_224", "CaiT", "blocks.1", **TINY)
register_timm("xcit_nano_12_p16_224", "XCiT", "blocks.1", **TINY)
register_timm("mixer_s16_224", "MLP-Mixer", "blocks.1", **MIXER)
register_timm("gmlp_s16_224", "gMLP", "blocks.1", mlp_ratio=6, block_layer=SpatialGatingBlock, mlp_layer=GatedMlp, **MIXER)
register_timm("levit_128s", "LeViT", "stages.1", **LEVIT)
register_timm("volo_d1_224", "VOLO", "network.0", build=VOLO, fails=FOLD, **VOLO_STAGES)
register_timm("crossvit_tiny_240", "CrossViT", "blocks.0.blocks.1", size=60, full_size=240, **CROSSVIT)
