"""Vision transformers, and their relatives, whose resolution falls from stage to stage."""

from timm.models.gcvit import GlobalContextVit
from timm.models.metaformer import GroupNorm1, GroupNorm1NoBias, MetaFormer
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import nn

from ..images import register_timm

SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4)}
META = {"build": MetaFormer, "depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48), "use_mlp_head": False}
POOL = {
    "downsample_norm": None,
    "mlp_act": nn.GELU,
    "mlp_bias": True,
    "norm_layers": GroupNorm1,
    "layer_scale_init_values": 1e-5,
    "res_scale_init_values": None,
}
MAX = {"img_size": 64, "embed_dim": (32, 32, 64), "depths": (1, 1, 1)}
COAT = {"img_size": 64, "embed_dim": (32, 32, 64, 64), "depths": (1, 1, 1, 1), "stem_width": (16, 32)}
PVT = {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 40, 64), "num_heads": (1, 2, 5, 8)}
TWINS = {
    "img_size": 64,
    "depths": (1, 1, 2, 1),
    "embed_dims": (16, 32, 48, 64),
    "num_heads": (2, 2, 2, 2),
    "wss": (2, 2, 2, 2),
}
DAVIT = {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 48, 64), "num_heads": (2, 2, 2, 2), "window_size": 2}
GC = {"img_size": 64, "depths": (1, 2, 1, 1), "num_heads": (2, 2, 2, 2), "embed_dim": 16, "window_size": (2, 2, 2, 2)}
HIERA = {"img_size": 64, "embed_dim": 16, "stages": (1, 1, 2, 1)}
TINY_VIT = {"embed_dims": (16, 32, 48, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 3, 4), "window_sizes": (2, 2, 4, 2)}
MVIT = MultiScaleVitCfg(depths=(1, 2, 1, 1), embed_dim=16)

# torch.onnx translates no attention of tensors that are not 4-dimensional: Twins and Hiera write it out.
register_timm("swin_tiny_patch4_window7_224", "Swin", "layers.1", **SWIN)
register_timm("swinv2_tiny_window8_256", "Swin v2", "layers.1", full_size=256, **SWIN)
register_timm("swinv2_cr_tiny_224", "Swin v2", "stages.1.blocks.1", **SWIN)
register_timm("poolformer_s12", "PoolFormer", "stages.1", **META, **POOL)
register_timm("poolformerv2_s12", "PoolFormer", "stages.1", norm_layers=GroupNorm1NoBias, **META)
register_timm("maxvit_pico_rw_256", "MaxViT", "stages.1", full_size=256, **MAX)
register_timm("maxvit_rmlp_pico_rw_256", "MaxViT", "stages.1", full_size=256, **MAX)
register_timm("coatnet_0_rw_224", "CoAtNet", "stages.1", **COAT)
register_timm("pvt_v2_b0", "PVT v2", "stages.1", **PVT)
register_timm("twins_svt_small", "Twins", "blocks.1.0", plain_attention=True, **TWINS)
register_timm("davit_tiny", "DaViT", "stages.1", **DAVIT)
register_timm("mvitv2_tiny", "MViT v2", "stages.1", build=MultiScaleVit, cfg=MVIT, img_size=(64, 64))
register_timm("gcvit_xxtiny", "GCViT", "stages.1.blocks.1", build=GlobalContextVit, **GC)
register_timm("hiera_tiny_224", "Hiera", "blocks.1", plain_attention=True, **HIERA)
register_timm("tiny_vit_5m_224", "TinyViT", "stages.1", **TINY_VIT)
