"""The backbones, one row each: what to build, how wide it is, where its weights lie, and where it can be cut by word.

Nothing here imports TensorFlow before a network is built: a spec, with its weights file and its cut, is known without
it.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.backbones import block_ends, builder, efficientnet_lite
from pipeline.backbones.backbone import IMAGE, Backbone
from pipeline.backbones.onnx_backbone import ONNX, OnnxBackbone
from pipeline.errors import CutError, InputError


def find(name: str) -> Backbone:
    """Return the row of a backbone; InputError, which names the nearest, if there is none of that name."""
    if found := BACKBONES.get(name) or GRAPHS.get(name):
        return found
    near = difflib.get_close_matches(name, BACKBONES, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `hs.backbones` lists them"
    raise InputError.of("backbone", f"one of {len(BACKBONES)} names", f"{name!r}{hint}")


def resolve_cut(backbone: Backbone, cut: str) -> str:
    """Return the layer that a portable word or an index means for this backbone; any other name is returned unchanged.

    To know the layer at an index, as in ``100``, the network is built. CutError for a word such as ``block-9`` that
    this backbone's table does not list, or an index beyond its layers.

    Whether the network can be cut at that layer is known once it is built: `pipeline.backbones.cutting.trunk` refuses
    what it cannot do.
    """
    if isinstance(backbone, OnnxBackbone):
        return backbone.tensor(cut)
    if cut.startswith("block-") and cut not in backbone.cuts:
        raise CutError.of("cut", f"one of {', '.join(backbone.cuts)} or a layer's name", repr(cut))
    if cut.isdecimal():
        return builder.layer_at(backbone, int(cut))
    return backbone.cuts.get(cut, cut)


def _row(
    name: str,
    builder: str,
    preprocessing: str,
    *,
    size: int,
    width: int,
    parameters: int,
    weights: str,
    ends: Sequence[str],
    alphas: tuple[float, ...] = (),
    sizes: tuple[int, ...] = (),
    layers: str = "",
) -> Backbone:
    """Make a row. `ends` are the layers between the blocks, from below, and the last layer: see `blocks`."""
    *inputs, top = ends
    words = {f"block-{len(inputs) - position}": layer for position, layer in enumerate(inputs)}
    cuts = {"image": IMAGE, **words, "top": top}
    return Backbone(name, builder, preprocessing, size, width, parameters, weights, cuts, alphas, sizes, layers)


def _keras(name: str, function: str, module: str, size: int, width: int, parameters: int, **rest: Any) -> Backbone:
    return _row(
        name,
        f"keras.applications:{function}",
        f"keras.applications.{module}:preprocess_input",
        size=size,
        width=width,
        parameters=parameters,
        **rest,
    )


_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _resnet(name: str, function: str, parameters: int, *repeats: int) -> Backbone:
    first_version = not name.endswith("v2")
    return _keras(
        name,
        function,
        "resnet" if first_version else "resnet_v2",
        224,
        2048,
        parameters,
        weights=name.replace("_", "") + _KERNELS,
        ends=block_ends.resnet(repeats) if first_version else block_ends.resnet_v2(repeats),
    )


def _densenet(name: str, function: str, width: int, parameters: int) -> Backbone:
    ends = block_ends.densenet()
    return _keras(name, function, "densenet", 224, width, parameters, weights=name + _KERNELS, ends=ends)


def _efficientnet(name: str, function: str, size: int, width: int, parameters: int, *repeats: int) -> Backbone:
    weights = f"{name.replace('_', '')}_notop.h5"
    ends = block_ends.efficientnet(repeats)
    return _keras(name, function, "efficientnet", size, width, parameters, weights=weights, ends=ends)


def _efficientnet_lite(number: str, size: int, parameters: int) -> Backbone:
    lite = efficientnet_lite.LITES[f"efficientnet_lite{number}"]
    module = "pipeline.backbones.efficientnet_lite"
    return _row(
        f"efficientnet_lite{number}",
        f"{module}:EfficientNetLite{number}",
        f"{module}:preprocess_input",
        size=size,
        width=1280,
        parameters=parameters,
        weights=lite.file,
        ends=block_ends.efficientnet([stage.repeats for stage in efficientnet_lite.stages(lite.width, lite.depth)]),
        layers=f"{module}:network{number}",
    )


def _efficientnet_v2(name: str, function: str, size: int, width: int, parameters: int, *repeats: int) -> Backbone:
    variant = name.rpartition("_")[2]
    # In b0 to b3 the first block narrows the stem's output, and has an activation; in s, m and l it adds.
    first = "block1a_project_activation" if variant.startswith("b") else "block1a_add"
    weights = f"efficientnetv2-{variant}_notop.h5"
    ends = block_ends.efficientnet(repeats, first)
    return _keras(name, function, "efficientnet_v2", size, width, parameters, weights=weights, ends=ends)


def _convnext(name: str, function: str, width: int, parameters: int, *repeats: int) -> Backbone:
    ends = block_ends.convnext(name, repeats)
    return _keras(name, function, "convnext", 224, width, parameters, weights=f"{name}_notop.h5", ends=ends)


# Name, Keras' function, default size, features, parameters without the classifier, repetitions of the blocks.
_ROWS = (
    _efficientnet_lite("0", 224, 3_413_024),
    _efficientnet_lite("1", 240, 4_189_344),
    _efficientnet_lite("2", 260, 4_869_168),
    _convnext("convnext_tiny", "ConvNeXtTiny", 768, 27_820_128, 3, 3, 9, 3),
    _convnext("convnext_small", "ConvNeXtSmall", 768, 49_454_688, 3, 3, 27, 3),
    _convnext("convnext_base", "ConvNeXtBase", 1024, 87_566_464, 3, 3, 27, 3),
    _convnext("convnext_large", "ConvNeXtLarge", 1536, 196_230_336, 3, 3, 27, 3),
    _convnext("convnext_xlarge", "ConvNeXtXLarge", 2048, 348_147_968, 3, 3, 27, 3),
    _densenet("densenet121", "DenseNet121", 1024, 7_037_504),
    _densenet("densenet169", "DenseNet169", 1664, 12_642_880),
    _densenet("densenet201", "DenseNet201", 1920, 18_321_984),
    _efficientnet("efficientnet_b0", "EfficientNetB0", 224, 1280, 4_049_571, 1, 2, 2, 3, 3, 4, 1),
    _efficientnet("efficientnet_b1", "EfficientNetB1", 240, 1280, 6_575_239, 2, 3, 3, 4, 4, 5, 2),
    _efficientnet("efficientnet_b2", "EfficientNetB2", 260, 1408, 7_768_569, 2, 3, 3, 4, 4, 5, 2),
    _efficientnet("efficientnet_b3", "EfficientNetB3", 300, 1536, 10_783_535, 2, 3, 3, 5, 5, 6, 2),
    _efficientnet("efficientnet_b4", "EfficientNetB4", 380, 1792, 17_673_823, 2, 4, 4, 6, 6, 8, 2),
    _efficientnet("efficientnet_b5", "EfficientNetB5", 456, 2048, 28_513_527, 3, 5, 5, 7, 7, 9, 3),
    _efficientnet("efficientnet_b6", "EfficientNetB6", 528, 2304, 40_960_143, 3, 6, 6, 8, 8, 11, 3),
    _efficientnet("efficientnet_b7", "EfficientNetB7", 600, 2560, 64_097_687, 4, 7, 7, 10, 10, 13, 4),
    _efficientnet_v2("efficientnet_v2_b0", "EfficientNetV2B0", 224, 1280, 5_919_312, 1, 2, 2, 3, 5, 8),
    _efficientnet_v2("efficientnet_v2_b1", "EfficientNetV2B1", 240, 1280, 6_931_124, 2, 3, 3, 4, 6, 9),
    _efficientnet_v2("efficientnet_v2_b2", "EfficientNetV2B2", 260, 1408, 8_769_374, 2, 3, 3, 4, 6, 10),
    _efficientnet_v2("efficientnet_v2_b3", "EfficientNetV2B3", 300, 1536, 12_930_622, 2, 3, 3, 5, 7, 12),
    _efficientnet_v2("efficientnet_v2_s", "EfficientNetV2S", 384, 1280, 20_331_360, 2, 4, 4, 6, 9, 15),
    _efficientnet_v2("efficientnet_v2_m", "EfficientNetV2M", 480, 1280, 53_150_388, 3, 5, 5, 7, 14, 18, 5),
    _efficientnet_v2("efficientnet_v2_l", "EfficientNetV2L", 480, 1280, 117_746_848, 4, 7, 7, 10, 19, 25, 7),
    _keras(
        "inception_resnet_v2",
        "InceptionResNetV2",
        "inception_resnet_v2",
        299,
        1536,
        54_336_736,
        weights="inception_resnet_v2" + _KERNELS,
        ends=block_ends.inception_resnet_v2(),
    ),
    _keras(
        "inception_v3",
        "InceptionV3",
        "inception_v3",
        299,
        2048,
        21_802_784,
        weights="inception_v3" + _KERNELS,
        ends=block_ends.inception_v3(),
    ),
    _keras(
        "mobilenet",
        "MobileNet",
        "mobilenet",
        224,
        1024,
        3_228_864,
        weights="mobilenet_{digits}_{size}_tf_no_top.h5",
        ends=block_ends.mobilenet(),
        alphas=(0.25, 0.5, 0.75, 1.0),
        sizes=(128, 160, 192, 224),
    ),
    _keras(
        "mobilenet_v2",
        "MobileNetV2",
        "mobilenet_v2",
        224,
        1280,
        2_257_984,
        weights="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top.h5",
        ends=block_ends.mobilenet_v2(),
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        sizes=(96, 128, 160, 192, 224),
    ),
    _keras(
        "mobilenet_v3_large",
        "MobileNetV3Large",
        "mobilenet_v3",
        224,
        960,
        2_996_352,
        weights="weights_mobilenet_v3_large_224_{alpha}_float_no_top_v2.h5",
        ends=block_ends.mobilenet_v3(15, plain={1, 3, 6, 10, 12}, top="activation_19"),
        alphas=(0.75, 1.0),
    ),
    _keras(
        "mobilenet_v3_small",
        "MobileNetV3Small",
        "mobilenet_v3",
        224,
        576,
        939_120,
        weights="weights_mobilenet_v3_small_224_{alpha}_float_no_top_v2.h5",
        ends=block_ends.mobilenet_v3(11, plain={0, 1, 3, 6, 8}, top="activation_17"),
        alphas=(0.75, 1.0),
    ),
    _keras(
        "nasnet_large",
        "NASNetLarge",
        "nasnet",
        331,
        4032,
        84_916_818,
        weights="nasnet_large_no_top.h5",
        ends=block_ends.nasnet("activation_259"),
    ),
    _keras(
        "nasnet_mobile",
        "NASNetMobile",
        "nasnet",
        224,
        1056,
        4_269_716,
        weights="nasnet_mobile_no_top.h5",
        ends=block_ends.nasnet("activation_187"),
    ),
    _resnet("resnet50", "ResNet50", 23_587_712, 3, 4, 6, 3),
    _resnet("resnet101", "ResNet101", 42_658_176, 3, 4, 23, 3),
    _resnet("resnet152", "ResNet152", 58_370_944, 3, 8, 36, 3),
    _resnet("resnet50_v2", "ResNet50V2", 23_564_800, 3, 4, 6, 3),
    _resnet("resnet101_v2", "ResNet101V2", 42_626_560, 3, 4, 23, 3),
    _resnet("resnet152_v2", "ResNet152V2", 58_331_648, 3, 8, 36, 3),
    _keras("vgg16", "VGG16", "vgg16", 224, 512, 14_714_688, weights="vgg16" + _KERNELS, ends=block_ends.vgg()),
    _keras("vgg19", "VGG19", "vgg19", 224, 512, 20_024_384, weights="vgg19" + _KERNELS, ends=block_ends.vgg()),
    _keras(
        "xception",
        "Xception",
        "xception",
        299,
        2048,
        20_861_480,
        weights="xception" + _KERNELS,
        ends=block_ends.xception(),
    ),
)

BACKBONES: Mapping[str, Backbone] = {row.name: row for row in _ROWS}
"""The table, by name; the offline default comes first."""

GRAPHS: Mapping[str, Backbone] = {ONNX.name: ONNX}
"""Bases whose network lies in the file that a user gives as weights; ``onnx:FILE`` is short for both."""
