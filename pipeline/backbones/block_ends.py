"""Where each family's blocks end: the layers, from the image upwards, at which one block hands over to the next.

Each function lists what enters the first block, the second, …, the last one, and then the network's last layer. A
block is what the family's paper repeats; down-sampling belongs to the block above it. The names are those that Keras
gives, with the automatic ones counted from the start of the network (see `pipeline.backbones.builder`).
"""

from collections.abc import Collection, Sequence
from string import ascii_lowercase


def vgg() -> list[str]:
    """VGG: five groups of convolutions, each ending in a pooling; the first takes the image."""
    return [f"block{number}_pool" for number in range(1, 6)]


def resnet(repeats: Sequence[int]) -> list[str]:
    """ResNet: residual units, `repeats` of them in each of four groups."""
    units = [f"conv{group}_block{unit}_out" for group, count in enumerate(repeats, 2) for unit in range(1, count + 1)]
    return ["pool1_pool", *units]


def resnet_v2(repeats: Sequence[int]) -> list[str]:
    """ResNetV2: as ResNet; a normalisation and an activation follow the last unit."""
    return [*resnet(repeats)[:-1], "post_relu"]


def densenet() -> list[str]:
    """DenseNet: four dense blocks, with a transition between two of them."""
    return ["pool1", "pool2_pool", "pool3_pool", "pool4_pool", "relu"]


def mobilenet() -> list[str]:
    """MobileNet: thirteen depthwise separable convolutions."""
    return ["conv1_relu", *(f"conv_pw_{number}_relu" for number in range(1, 14))]


def mobilenet_v2() -> list[str]:
    """MobileNetV2: seventeen inverted residuals; those that change the shape have no addition."""
    plain = {1, 3, 6, 10, 13}
    blocks = [f"block_{number}_{'project_BN' if number in plain else 'add'}" for number in range(1, 16)]
    return ["Conv1_relu", "expanded_conv_project_BN", *blocks, "out_relu"]


def mobilenet_v3(count: int, plain: Collection[int], top: str) -> list[str]:
    """MobileNetV3: `count` inverted residuals, of which the `plain` ones have no addition."""
    names = ["expanded_conv", *(f"expanded_conv_{number}" for number in range(1, count - 1))]
    blocks = [f"{name}_{'project_bn' if number in plain else 'add'}" for number, name in enumerate(names)]
    return ["activation", *blocks, top]


def efficientnet(repeats: Sequence[int], first: str = "block1a_project_bn") -> list[str]:
    """EfficientNet of any version: inverted residuals, `repeats` of them in each stage.

    The first of a stage changes the shape and has no addition. The very first block differs between the versions:
    `first` is its last layer.
    """
    blocks = [
        f"block{stage}{letter}_{'project_bn' if letter == 'a' else 'add'}"
        for stage, count in enumerate(repeats, 1)
        for letter in ascii_lowercase[:count]
    ]
    return ["stem_activation", first, *blocks[1:-1], "top_activation"]


def xception() -> list[str]:
    """Xception: blocks 2 to 14; the additions between them have automatic names."""
    return ["block1_conv2_act", "add", *(f"add_{number}" for number in range(1, 12)), "block14_sepconv2_act"]


def inception_v3() -> list[str]:
    """InceptionV3: eleven mixed blocks."""
    return ["max_pooling2d_1", *(f"mixed{number}" for number in range(11))]


def inception_resnet_v2() -> list[str]:
    """InceptionResNetV2: forty residual blocks in three groups, and the two reductions between the groups."""
    return [
        "mixed_5b",
        *(f"block35_{number}_ac" for number in range(1, 11)),
        "mixed_6a",
        *(f"block17_{number}_ac" for number in range(1, 21)),
        "mixed_7a",
        *(f"block8_{number}_ac" for number in range(1, 10)),
        "conv_7b_ac",
    ]


def nasnet(top: str) -> list[str]:
    """NASNet: each cell takes the outputs of two cells before it, so no cell has a single input."""
    return [top]


def convnext(name: str, repeats: Sequence[int]) -> list[str]:
    """ConvNeXt: residual blocks, `repeats` of them in each of four stages; the additions have automatic names."""
    additions = ["add", *(f"add_{number}" for number in range(1, sum(repeats) - 1))]
    return [f"{name}_stem_layernorm", *additions, "layer_normalization"]
