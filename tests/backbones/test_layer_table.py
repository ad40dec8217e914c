"""The layer table: shapes, counts and costs, by hand and against published numbers."""

import itertools

import keras
import pytest
from keras import layers

from pipeline.backbones import builder
from pipeline.backbones.builder import without_weights
from pipeline.backbones.layer_table import LayerRow, layer_table, rungs
from pipeline.backbones.table import find

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
    with without_weights():
        base = builder.build(find(name), size=size, alpha=1.0, seed=0)
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
        LayerRow(0, "image", "InputLayer", (8, 8, 3), 0, 0, 0, 0, True, 0, 0, 768),
        LayerRow(1, "conv", "Conv2D", (4, 4, 4), 112, 112, 2, 0, True, 1728, 1728, 256),
        LayerRow(2, "norm", "BatchNormalization", (4, 4, 4), 16, 8, 2, 2, True, 0, 1728, 256),
        LayerRow(3, "depthwise", "DepthwiseConv2D", (4, 4, 4), 40, 40, 2, 0, False, 576, 2304, 256),
        LayerRow(4, "sum", "Add", (4, 4, 4), 0, 0, 0, 0, True, 0, 2304, 256),
        LayerRow(5, "separable", "SeparableConv2D", (4, 4, 6), 66, 66, 3, 0, True, 960, 3264, 384),
        LayerRow(6, "grouped", "Conv2D", (4, 4, 6), 18, 18, 2, 0, True, 192, 3456, 384),
        LayerRow(7, "dense", "Dense", (4, 4, 5), 35, 35, 2, 0, True, 480, 3936, 320),
    ]


def test_a_base_whose_weights_may_be_empty_draws_no_number_and_leaves_none_to_draw():
    asked = {"size": 32, "alpha": 1.0, "seed": 0}
    full, empty = (builder.build(find("mobilenet"), **asked, empty=empty) for empty in (False, True))
    with keras.StatelessScope():
        pass  # when it ends, Keras draws what was left to draw
    assert {variable._value is None for variable in empty.weights} == {True}
    assert {variable._value is None for variable in full.weights} == {False}
    assert layer_table(empty) == layer_table(full)


def test_parameters_add_up_over_nested_models():
    with without_weights():
        base = builder.build(find("convnext_tiny"), size=32, alpha=1.0, seed=0)
    assert sum(row.parameters for row in layer_table(base)) == 27_820_128


def test_vgg16_with_its_classifier_has_32_weight_arrays_of_which_28_train_once_two_layers_are_frozen():
    with without_weights():
        model = keras.applications.VGG16(weights=None)
    for name in ("block1_conv2", "block4_conv3"):
        model.get_layer(name).trainable = False
    table = layer_table(model)
    assert sum(row.trainable + row.frozen for row in table) == 32
    assert sum(row.trainable for row in table) == 28


def row(name, below, *, shape=(4, 4, 2), can_cut=True):
    return LayerRow(0, name, "Layer", shape, 0, 0, 0, 0, can_cut, 0, below, 128)


def test_the_rungs_of_a_deep_base_are_the_ends_of_its_blocks():
    table = [row("image", 0), *(row(f"{name}{block}", block) for block in range(1, 10) for name in ("conv", "end"))]
    blocks = ["image", *(f"end{block}" for block in range(1, 10))]
    assert [rung.name for rung in rungs(table, blocks=blocks, most=18)] == blocks[1:]


def test_where_there_are_few_blocks_the_rungs_are_the_topmost_cuts_of_equal_cost():
    table = [
        row("image", 0),
        row("conv1", 10),
        row("relu1", 10),
        row("beside", 15, can_cut=False),
        row("conv2", 20),
        row("pool2", 20),
        row("vector", 30, shape=(2,)),
    ]
    assert [rung.name for rung in rungs(table, blocks=["pool2"], most=18)] == ["relu1", "pool2"]


@pytest.mark.parametrize("most", [2, 3, 8, 18])
def test_of_too_many_rungs_evenly_spread_ones_are_taken_the_topmost_among_them(most):
    table = [row(str(place), place) for place in range(1, 51)]
    found = [int(rung.name) for rung in rungs(table, blocks=map(str, range(1, 51)), most=most)]
    assert len(found) == most
    assert (found[0], found[-1]) == (1, 50)
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(("name", "count"), [("efficientnet_lite0", 17), ("vgg16", 13), ("nasnet_mobile", 2)])
def test_every_kind_of_base_has_rungs_up_to_the_top(name, count):
    backbone = find(name)
    with without_weights():
        base = builder.build(backbone, size=224, alpha=1.0, seed=0)
    found = rungs(layer_table(base), blocks=backbone.cuts.values(), most=18)
    assert found[-1].name == backbone.cuts["top"]
    assert len(found) == count
