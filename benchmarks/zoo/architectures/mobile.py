"""Networks made for phones."""

from timm.models.efficientformer import EfficientFormer
from timm.models.fastvit import FastVit

from ..images import register_timm

NARROW = {"depths": (1, 1, 1, 2), "embed_dims": (16, 24, 32, 48)}
FASTVIT = {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128), "mlp_ratios": (3, 3, 3, 3)}

register_timm("mobilenetv1_100", "MobileNet v1", "blocks.2", trim="blocks")
register_timm("mobilenetv2_050", "MobileNet v2", "blocks.2", trim="blocks")
register_timm("mobilenetv3_small_050", "MobileNet v3", "blocks.2", trim="blocks")
register_timm("mobilenetv4_conv_small_050", "MobileNet v4", "blocks.2", trim="blocks")
register_timm("mobilenetv4_hybrid_medium", "MobileNet v4", "blocks.2", trim="blocks", plain_attention=True)
register_timm("efficientnet_b0", "EfficientNet", "blocks.2", trim="blocks")
register_timm("tf_efficientnet_b0", "EfficientNet", "blocks.2", trim="blocks")
register_timm("efficientnetv2_rw_t", "EfficientNet v2", "blocks.2", trim="blocks")
register_timm("mixnet_s", "MixNet", "blocks.2", trim="blocks")
register_timm("ghostnet_050", "GhostNet", "blocks.3")
register_timm("mobilevit_xxs", "MobileViT", "stages.2", full_size=256)
register_timm("mobilevitv2_050", "MobileViT", "stages.2", full_size=256)
register_timm("edgenext_xx_small", "EdgeNeXt", "stages.1", dims=(16, 24, 32, 48), depths=(1, 1, 2, 2), full_size=256)
# The attention's table of positions is that of 224x224 images: no smaller ones.
register_timm("efficientformer_l1", "EfficientFormer", "stages.1", build=EfficientFormer, num_vit=1, size=224, **NARROW)
register_timm("efficientformerv2_s0", "EfficientFormer", "stages.1", num_vit=1, img_size=64, **NARROW)
register_timm("efficientvit_b0", "EfficientViT", "stages.1", depths=(1, 1, 1, 1))
register_timm("fastvit_t8", "FastViT", "stages.1", build=FastVit, full_size=256, **FASTVIT)
register_timm("repvit_m0_9", "RepViT", "stages.1", depth=(1, 1, 2, 1), embed_dim=(16, 24, 32, 48))
