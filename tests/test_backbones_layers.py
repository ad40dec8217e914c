"""The layer table: shapes, counts and costs, by hand and against published numbers."""

import keras
import pytest
from keras import layers

from pipeline.backbones import LayerRow, building, find, layer_table

PUBLISHED = {  # multiply-adds of one image without the classifier, in 10^9
    ("vgg16", 224): 15.35,
    ("resnet50", 224): 3.86,
    ("mobilenet", 224): 0.568,
    ("mobilenet_v2", 224): 0.299,
    ("efficientnet_lite0", 224): 0.384,
    ("inception_v3", 299): 5.71,
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_multiply_adds_agree_with_the_papers(name, size):
    with keras.StatelessScope():
        base = building.build(find(name), size=size, alpha=1.0, seed=0)
    assert layer_table(base)[-1].multiply_adds_below / 1e9 == pytest.approx(PUBLISHED[name, size], rel=2e-3)


def test_rows_by_hand():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(image)  # 4*4 positions, 3*3*3*4 products each
    x = layers.BatchNormalization(name="norm")(x)
    side = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)  # 4*4 positions, 3*3*4
    x = layers.Add(name="sum")([x, side])
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)  # 4*4 positions, 3*3*4 + 4*6
    x = layers.Conv2D(6, 1, groups=3, name="grouped")(x)  # 4*4 positions, 2*6
    base = keras.Model(image, layers.Dense(5, name="dense")(x))  # 4*4 positions, 6*5
    assert layer_table(base) == [
        LayerRow("image", "InputLayer", (8, 8, 3), 0, 0, 0, True, 0, 0, 768),
        LayerRow("conv", "Conv2D", (4, 4, 4), 112, 2, 0, True, 1728, 1728, 256),
        LayerRow("norm", "BatchNormalization", (4, 4, 4), 16, 2, 2, True, 0, 1728, 256),
        LayerRow("depthwise", "DepthwiseConv2D", (4, 4, 4), 40, 2, 0, False, 576, 2304, 256),
        LayerRow("sum", "Add", (4, 4, 4), 0, 0, 0, True, 0, 2304, 256),
        LayerRow("separable", "SeparableConv2D", (4, 4, 6), 66, 3, 0, True, 960, 3264, 384),
        LayerRow("grouped", "Conv2D", (4, 4, 6), 18, 2, 0, True, 192, 3456, 384),
        LayerRow("dense", "Dense", (4, 4, 5), 35, 2, 0, True, 480, 3936, 320),
    ]


def test_parameters_add_up_over_nested_models():
    base = building.build(find("convnext_tiny"), size=32, alpha=1.0, seed=0)
    assert sum(row.parameters for row in layer_table(base)) == 27_820_128


def test_vgg16_with_its_classifier_has_32_weight_arrays_of_which_28_train_once_two_layers_are_frozen():
    with keras.StatelessScope():
        model = keras.applications.VGG16(weights=None)
    for name in ("block1_conv2", "block4_conv3"):
        model.get_layer(name).trainable = False
    table = layer_table(model)
    assert sum(row.trainable + row.frozen for row in table) == 32
    assert sum(row.trainable for row in table) == 28
