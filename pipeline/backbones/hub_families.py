"""The table of keras-hub's image networks: a new one is one row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.backbones.engines.graphs import GRAPH_IMAGES
from pipeline.errors import InputError


@dataclass(frozen=True)
class Family:
    """One kind of network: a row of the table.

    Attributes
    ----------
    backbone : str
        Its class in ``keras_hub.models``.
    blocks : str
        Regular expression for the layers whose outputs are those of blocks: ``Class name``.
    before : callable or None
        From the network to how many tokens stand before those of the patches: class token, then registers. None where
        maps leave the network.
    tower : str
        The part of the network that sees the image, if it is not the whole.
    any_size : bool
        Whether it can be built for images of another size than its preset's, although it has one.
    images : int or None
        How many its graph takes at once, where OpenVINO cannot follow the shapes if that is open.
    note : str
        What a user must know.
    """

    backbone: str
    blocks: str
    before: Callable[[Any], int] | None = None
    tower: str = ""
    any_size: bool = False
    images: int | None = None
    note: str = ""


def _class_and_registers(network: Any) -> int:
    return 1 + int(network.num_register_tokens)


GATED: Final = "DINOv3's weights have a licence of their own, and are given to those only who accept it"
FAMILIES: Final = (
    Family("ViTBackbone", "ViTEncoderBlock .*", lambda network: int(network.use_class_token)),
    Family("DeiTBackbone", "DeiTEncoderBlock .*", lambda _: 2),
    Family("DINOV2Backbone", "DINOV2Layer .*", _class_and_registers, any_size=True),
    Family("DINOV3Backbone", "DINOV3Layer .*", _class_and_registers, any_size=True, images=GRAPH_IMAGES, note=GATED),
    Family("SigLIPBackbone", "SigLIPEncoderLayer .*", lambda _: 0, tower="vision_encoder"),
    Family("CLIPBackbone", "CLIPEncoderLayer .*", lambda _: 1, tower="vision_encoder"),
    Family("MetaCLIP2Backbone", "MetaCLIP2EncoderLayer .*", lambda _: 1, tower="vision_encoder"),
    Family("SwinTransformerBackbone", "SwinTransformerBlock .*", lambda _: 0),
    Family("MiTBackbone", "HierarchicalTransformerEncoder .*", any_size=True),
    Family("ResNetBackbone", r".* stack\d+_block\d+_out"),
    Family("DenseNetBackbone", r".* (pool1|transition\d+_pool)"),
    Family("CSPNetBackbone", r".* stage_\d+_csp_transition_activation|.* stage_\d+_dark_block_\d+_dark_block_add"),
    Family("HGNetV2Backbone", "HGNetV2Stage .*", any_size=True),
    Family("MobileNetBackbone", "(DepthwiseConvBlock|InvertedResidualBlock) .*"),
    Family("MobileNetV5Backbone", "(EdgeResidual|UniversalInvertedResidual|MobileAttention|CondConvResidual) .*"),
    Family("EfficientNetBackbone", "(CBABlock|MBConvBlock|FusedMBConvBlock) .*"),
    Family("VGGBackbone", "MaxPooling2D .*"),
    Family("XceptionBackbone", r".* block\d+_(residual_add|pool)"),
)
"""The table; a network of another class is refused."""


def family_of(network: Any) -> Family:
    """Return the row of a network; InputError if there is none."""
    kinds = {one.backbone: one for one in FAMILIES}
    name = type(network).__name__
    if name not in kinds:
        raise InputError(f"expected a preset of an image network, one of {', '.join(kinds)}, received {name}")
    return kinds[name]


def tower_of(network: Any) -> Any:
    """Return the part of a network that sees the image."""
    family = family_of(network)
    return getattr(network, family.tower) if family.tower else network
