"""The smallest network of each family of keras-hub, with random weights, as the folder of a preset."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras_hub
from keras_hub import models

SIDE = 64
SCALE, OFFSET = [1 / 58, 1 / 57, 1 / 56], [-2.1, -2.0, -1.8]
SQUARE = {"image_shape": (SIDE, SIDE, 3)}
TWO_BLOCKS = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32}
VIT = {**SQUARE, **TWO_BLOCKS, "patch_size": 16}
TOWER = {**VIT, "intermediate_dim": 64}
TEXT = {**TWO_BLOCKS, "vocabulary_size": 20, "embedding_dim": 32, "max_sequence_length": 8, "intermediate_dim": 64}


def _resnet(stem: list[int], **more: Any) -> Any:
    filters = {
        "input_conv_filters": stem,
        "input_conv_kernel_sizes": [3] * len(stem),
        "stackwise_num_filters": [64, 32],
    }
    return models.ResNetBackbone(**filters, stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], **more)


def _mobilenet_v5() -> Any:
    def each(**values: Any) -> dict[str, Any]:
        return {f"stackwise_{name}": [[first], [second, third]] for name, (first, second, third) in values.items()}

    return models.MobileNetV5Backbone(
        **each(
            block_types=("er", "uir", "mqa"),
            num_filters=(16, 32, 32),
            strides=(2, 2, 1),
            act_layers=("gelu", "gelu", "gelu"),
            exp_ratios=(4.0, 4.0, 1.0),
            se_ratios=(0.0, 0.0, 0.0),
            dw_kernel_sizes=(0, 5, 5),
            dw_start_kernel_sizes=(0, 0, 0),
            dw_end_kernel_sizes=(0, 0, 0),
            exp_kernel_sizes=(3, 0, 0),
            pw_kernel_sizes=(1, 0, 0),
            num_heads=(0, 0, 2),
            key_dims=(0, 0, 16),
            value_dims=(0, 0, 16),
            kv_strides=(0, 0, 1),
            use_cpe=(False, False, False),
        ),
        stackwise_num_blocks=[1, 2],
        num_features=32,
        msfa_output_resolution=4,
    )


NETWORKS: dict[str, Callable[[], Any]] = {
    "vit": lambda: models.ViTBackbone(**VIT, mlp_dim=64),
    "deit": lambda: models.DeiTBackbone(**TOWER),
    "dinov2": lambda: models.DINOV2Backbone(**{**TOWER, "patch_size": 8}, position_embedding_shape=(96, 96, 3)),
    "dinov2 with registers": lambda: models.DINOV2Backbone(
        **{**TOWER, "patch_size": 8},
        num_register_tokens=4,
        position_embedding_shape=(96, 96, 3),
        antialias_in_interpolation=True,
    ),
    "dinov3": lambda: models.DINOV3Backbone(**{**TOWER, "patch_size": 8}),
    "siglip": lambda: models.SigLIPBackbone(models.SigLIPVisionEncoder(**TOWER), models.SigLIPTextEncoder(**TEXT)),
    "clip": lambda: models.CLIPBackbone(models.CLIPVisionEncoder(**TOWER), models.CLIPTextEncoder(**TEXT), 16),
    "metaclip 2": lambda: models.MetaCLIP2Backbone(
        models.MetaCLIP2VisionEncoder(**TOWER), models.MetaCLIP2TextEncoder(**TEXT), 16
    ),
    "swin": lambda: models.SwinTransformerBackbone(
        **SQUARE, embed_dim=16, depths=(1, 1), num_heads=(2, 4), window_size=4
    ),
    "mit": lambda: models.MiTBackbone(
        **SQUARE,
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[16, 32],
    ),
    "resnet": lambda: _resnet([64], block_type="basic_block"),
    "resnet v2": lambda: _resnet([64], block_type="bottleneck_block", use_pre_activation=True),
    "resnet-d": lambda: _resnet([8, 8, 64], block_type="basic_block_vd"),
    "densenet": lambda: models.DenseNetBackbone(stackwise_num_repeats=[2, 2], growth_rate=8),
    "cspnet": lambda: models.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[2, 2],
        stackwise_num_filters=[16, 32],
        bottle_ratio=[0.5, 1.0],
        block_ratio=[1.0, 0.5],
        expand_ratio=[2.0, 1.0],
        stem_padding="same",
        down_growth=True,
        block_type="dark_block",
        stage_type="csp",
    ),
    "hgnet v2": lambda: models.HGNetV2Backbone(
        **SQUARE,
        depths=[1, 1],
        embedding_size=16,
        hidden_sizes=[32, 32],
        stem_channels=[3, 8, 16],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(16, 8, 32, 1, 1, 3), (32, 16, 32, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
    ),
    "mobilenet": lambda: models.MobileNetBackbone(
        stackwise_expansion=[[16], [32, 32]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[16], [32, 32]],
        stackwise_kernel_size=[[3], [5, 5]],
        stackwise_num_strides=[[2], [2, 1]],
        stackwise_se_ratio=[[None], [0.25, 0.25]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1], [2, 2]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
        input_num_filters=16,
    ),
    "mobilenet v5": _mobilenet_v5,
    "efficientnet": lambda: models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 32],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        stackwise_width_coefficients=[1, 1],
        stackwise_depth_coefficients=[1, 1],
    ),
    "vgg": lambda: models.VGGBackbone(stackwise_num_repeats=[1, 2], stackwise_num_filters=[16, 32]),
    "xception": lambda: models.XceptionBackbone(
        stackwise_conv_filters=[[16, 32], [48, 48], [48, 48, 48], [32, 64]],
        stackwise_pooling=[True, True, False, False],
    ),
}


def write(name: str, folder: Path, **converter: Any) -> tuple[Any, Any]:
    """Write a preset, weights and image converter; return both as keras-hub reads them back."""
    network, random = NETWORKS[name](), np.random.default_rng(0)
    for weight in network.weights:
        values = random.normal(size=weight.shape) * 0.2
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    kinds = {one.backbone_cls: one for one in keras_hub.layers.ImageConverter.__subclasses__()}
    chosen = {"image_size": (SIDE, SIDE), "scale": SCALE, "offset": OFFSET, "interpolation": "bicubic", **converter}
    image_converter = kinds[type(network)](**chosen)
    network.save_to_preset(str(folder))
    image_converter.save_to_preset(str(folder))
    return models.Backbone.from_preset(str(folder)), image_converter
