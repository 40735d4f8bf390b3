"""Detection and segmentation from transformers, and the two towers of CLIP."""

from collections.abc import Callable
from functools import partial

import torch
import transformers as hf
from torch import Tensor, nn

from ..architecture import Architecture, Predict, Variant, register

VOCABULARY = 211


def draw_pixels(size: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws images under transformers' name."""
    return {"pixel_values": torch.randn(batch, 3, size, size, generator=generator)}


def draw_image_and_text(size: int, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws an image and a text for every sample."""
    text = torch.randint(3, VOCABULARY, (batch, 8), generator=generator)
    return {**draw_pixels(size, batch, generator), "input_ids": text}


def logits_of(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a model that has logits."""
    return network(**inputs).logits


def classes_and_boxes(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls a detector: [batch, queries, classes + 4]."""
    output = network(**inputs)
    return torch.cat([output.logits, output.pred_boxes], dim=-1)


def image_and_text(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Calls CLIP: both embeddings of a sample, for its own similarities would couple the samples of a batch."""
    output = network(**inputs)
    return torch.cat([output.image_embeds, output.text_embeds], dim=-1)


def register_dense(
    name: str,
    family: str,
    middle: str,
    reduced: Callable[[], nn.Module],
    full: Callable[[], nn.Module] | None,
    predict: Predict = logits_of,
    *,
    size: int = 64,
) -> None:
    """Registers a model of images."""
    register(
        Architecture(
            name,
            family,
            Variant(reduced, partial(draw_pixels, size)),
            predict,
            middle,
            full=None if full is None else Variant(full, partial(draw_pixels, 224)),
            wrt="pixel_values",
        )
    )


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
DETR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 5,
    "num_labels": 7,
}
SEGFORMER = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16,
    "num_labels": 6,
}
CONVNEXT = {"hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1]}
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
UPERNET = {"hidden_size": 16, "pool_scales": [1, 2], "num_labels": 6, "use_auxiliary_head": False}


def detr(backbone: hf.PretrainedConfig, **arguments: object) -> nn.Module:
    """Makes DETR on a ResNet of transformers (its default is timm's, to be downloaded)."""
    config = hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, **arguments
    )
    return hf.DetrForObjectDetection(config)


register_dense(
    "detr",
    "detection",
    "model.encoder.layers.0",
    lambda: detr(hf.ResNetConfig(out_features=["stage4"], **RESNET), **DETR),
    lambda: detr(hf.ResNetConfig(out_features=["stage4"])),
    classes_and_boxes,
)
register_dense(
    "yolos",
    "detection",
    "vit.encoder.layer.0",
    lambda: hf.YolosForObjectDetection(
        hf.YolosConfig(image_size=[64, 64], num_detection_tokens=5, num_labels=7, use_mid_position_embeddings=False, **VIT)
    ),
    None,
    classes_and_boxes,
)
register_dense(
    "segformer",
    "segmentation",
    "segformer.stages.1.blocks.0",
    lambda: hf.SegformerForSemanticSegmentation(hf.SegformerConfig(**SEGFORMER)),
    lambda: hf.SegformerForSemanticSegmentation(hf.SegformerConfig()),
)
register_dense(
    "upernet_convnext",
    "segmentation",
    "backbone.encoder.stages.1",
    lambda: hf.UperNetForSemanticSegmentation(
        hf.UperNetConfig(backbone_config=hf.ConvNextConfig(**CONVNEXT, **STAGES), **UPERNET)
    ),
    lambda: hf.UperNetForSemanticSegmentation(hf.UperNetConfig(backbone_config=hf.ConvNextConfig(**STAGES))),
)
register_dense(
    "dpt",
    "segmentation",
    "dpt.encoder.layer.1",
    lambda: hf.DPTForSemanticSegmentation(
        hf.DPTConfig(
            image_size=64,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 12, 16, 24],
            fusion_hidden_size=16,
            num_labels=6,
            is_hybrid=False,
            use_auxiliary_head=False,
            **{**VIT, "num_hidden_layers": 4},
        )
    ),
    None,
)
register(
    Architecture(
        "clip",
        "CLIP",
        Variant(
            lambda: hf.CLIPModel(
                hf.CLIPConfig(
                    text_config={
                        "vocab_size": VOCABULARY,
                        "max_position_embeddings": 16,
                        "bos_token_id": 1,
                        "eos_token_id": 2,
                        **VIT,
                    },
                    vision_config={"image_size": 64, "patch_size": 16, **VIT},
                    projection_dim=16,
                )
            ),
            partial(draw_image_and_text, 64),
        ),
        image_and_text,
        "vision_model.encoder.layers.0",
        wrt="pixel_values",
    )
)
