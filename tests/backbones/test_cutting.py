"""Articulation points, trunks and pooling, on networks small enough to check by hand or by brute force."""

import itertools
import random

import keras
import numpy as np
import pytest
from keras import layers

from pipeline.backbones import builder, cutting, layer_graph
from pipeline.backbones.backbone import Backbone
from pipeline.errors import CutError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
STATISTICS = [np.full(4, value, np.float32) for value in (2.0, 1.0, 0.5, 3.0)]  # gamma, beta, mean, variance
TINY = Backbone(
    name="tiny",
    builder="unused:unused",
    preprocessing="pipeline.backbones.efficientnet_lite:preprocess_input",
    size=8,
    width=4,
    parameters=0,
    weights_template="",
    cuts={"image": "input_layer", "top": "last"},
    alphas=(),
    sizes=(),
)


def branching():
    """image -> a -> (b, c) -> sum -> last, with a batch normalisation in one branch."""
    image = keras.Input((8, 8, 3), name="input_layer")
    a = layers.Conv2D(4, 3, padding="same", name="a")(image)
    b = layers.BatchNormalization(name="b")(a)
    c = layers.Conv2D(4, 1, name="c")(a)
    joined = layers.Add(name="sum")([b, c])
    return keras.Model(image, layers.ReLU(name="last")(joined), name="branching")


def nested():
    """The same idea with a sequential model inside, and an addition that is no layer."""
    image = keras.Input((8, 8, 3), name="input_layer")
    stem = keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")], name="stem")
    x = stem(image)
    return keras.Model(image, layers.ReLU(name="last")(x + layers.Conv2D(4, 1, name="side")(x)), name="nested")


def separates(parents, node):
    """Whether removing `node` cuts the last node off from the first."""
    reached = {0} - {node}
    for child, above in enumerate(parents):
        if child != node and any(parent in reached for parent in above):
            reached.add(child)
    return len(parents) - 1 not in reached


def random_graph(seed, size=9):
    """A graph in topological order in which every node but the last has a child."""
    rng = random.Random(seed)
    parents = [[]] + [sorted(set(rng.choices(range(node), k=rng.randint(1, 2)))) for node in range(1, size)]
    childless = set(range(size - 1)).difference(*parents)
    parents[-1] = sorted(set(parents[-1]) | childless)
    return parents


@pytest.mark.parametrize("seed", range(200))
def test_articulation_points_are_those_whose_removal_separates_image_and_top(seed):
    parents = random_graph(seed)
    expected = [node for node in range(len(parents)) if separates(parents, node)]
    assert layer_graph.articulation_points(parents) == expected


def test_articulation_points_of_a_chain_are_all_its_nodes():
    assert layer_graph.articulation_points([[], [0], [1], [2]]) == [0, 1, 2, 3]


def test_branches_are_no_cuts():
    assert cutting.cut_points(branching()) == ["input_layer", "a", "sum", "last"]


def test_layers_of_nested_models_are_cuts_and_the_nested_model_is_none():
    base = nested()
    builder.name_layers(base)
    assert cutting.cut_points(base) == ["input_layer", "conv", "norm", "add", "last"]


@pytest.mark.parametrize("cut", ["conv", "norm"])
def test_trunk_can_end_inside_a_nested_model(cut):
    base = nested()
    base.get_layer("stem").get_layer("norm").set_weights(STATISTICS)
    stem = base.get_layer("stem")
    expected = stem.get_layer("conv")(PIXELS / np.float32(127.5) - 1)
    if cut == "norm":
        expected = stem.get_layer("norm")(expected, training=False)
    received = cutting.trunk(TINY, base, cut=cut, pooling="none")(PIXELS)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_trunk_is_preprocessing_then_the_base_in_inference_mode():
    base = branching()
    base.get_layer("b").set_weights(STATISTICS)
    expected = base(PIXELS / np.float32(127.5) - 1, training=False)
    trunk = cutting.trunk(TINY, base, cut="top", pooling="none")
    before = [weight.copy() for weight in base.get_weights()]
    np.testing.assert_allclose(trunk(PIXELS), expected, rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, base.get_weights(), strict=True))


def test_trunk_takes_uint8_and_gives_float32():
    trunk = cutting.trunk(TINY, branching(), cut="image", pooling="flatten")
    assert trunk.input.dtype == "uint8"
    assert trunk.input.shape == (None, 8, 8, 3)
    assert trunk.output.dtype == "float32"


def test_image_is_the_preprocessed_pixels():
    received = cutting.trunk(TINY, branching(), cut="image", pooling="none")(PIXELS)
    np.testing.assert_allclose(received, PIXELS / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("base", [branching, nested])
def test_several_trunks_in_one_give_what_each_gives_alone(base):
    base = base()
    builder.name_layers(base)
    points = [point for point in cutting.cut_points(base) if point != "last"]
    cuts = [(cut, pooling) for cut in (*points, "top") for pooling in ("avg", "grid2", "flatten")]
    model, widths = cutting.trunks(TINY, base, cuts=cuts)
    rows = np.asarray(model(PIXELS))
    assert rows.shape == (3, sum(widths))
    parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    for (cut, pooling), part in zip(cuts, parts, strict=True):
        alone = cutting.trunk(TINY, base, cut=cut, pooling=pooling)
        np.testing.assert_array_equal(part, alone(PIXELS), err_msg=f"{cut} {pooling}")


def test_several_trunks_share_what_lies_below_them():
    calls = []

    class Counting(layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x + 1.0

    image = keras.Input((8, 8, 3), name="input_layer")
    base = keras.Model(image, Counting(name="last")(Counting(name="a")(image)))
    model, _ = cutting.trunks(TINY, base, cuts=[("a", "avg"), ("top", "avg"), ("top", "max")])
    calls.clear()
    model(PIXELS)
    assert calls == ["a", "last"]


def test_one_trunk_among_several_that_cannot_be_is_refused():
    with pytest.raises(CutError, match="received 'c', which lies beside a branch"):
        cutting.trunks(TINY, branching(), cuts=[("a", "avg"), ("c", "avg")])


def test_a_layer_beside_a_branch_is_refused_with_the_nearest_cuts():
    with pytest.raises(CutError, match=r"received 'c', which lies beside a branch; .* are a, sum, last"):
        cutting.trunk(TINY, branching(), cut="c", pooling="avg")


def test_an_unknown_layer_is_refused_with_the_topmost_cuts():
    with pytest.raises(CutError, match=r"expected one of the 4 layers .* received 'd'; the topmost are a, sum, last"):
        cutting.trunk(TINY, branching(), cut="d", pooling="avg")


def test_an_unknown_pooling_is_refused():
    with pytest.raises(
        CutError, match="`pooling`: expected one of avg, max, grid2, grid3, flatten, none, received 'grid4'"
    ):
        cutting.trunk(TINY, branching(), cut="top", pooling="grid4")


def test_pooling_over_space_is_refused_where_there_is_none():
    image = keras.Input((8, 8, 3), name="input_layer")
    base = keras.Model(image, layers.GlobalAveragePooling2D(name="last")(image))
    with pytest.raises(CutError, match=r"expected activations \(B, H, W, C\) for 'grid2', received shape \(None, 3\)"):
        cutting.trunk(TINY, base, cut="top", pooling="grid2")


def area_mean(image, cells):
    """Mean over each cell of an n by n grid, by splitting every pixel into n by n equal parts."""
    height, width, channels = image.shape
    fine = np.repeat(np.repeat(image, cells, axis=0), cells, axis=1)
    return fine.reshape(cells, height, cells, width, channels).mean(axis=(1, 3)).ravel()


@pytest.mark.parametrize(
    ("cells", "size"), list(itertools.product((2, 3), [(1, 1), (2, 2), (3, 5), (7, 7), (6, 4), (10, 11)]))
)
def test_grid_pooling_is_the_area_mean_with_shared_pixels_split(cells, size):
    x = np.random.default_rng(1).normal(size=(2, *size, 5)).astype(np.float32)
    inputs = keras.Input(x.shape[1:])
    received = keras.Model(inputs, cutting._pool(inputs, f"grid{cells}"))(x)
    np.testing.assert_allclose(received, [area_mean(image, cells) for image in x], rtol=1e-5, atol=1e-6)


def test_grid_pooling_runs_over_rows_first_and_channels_last():
    x = np.zeros((1, 4, 4, 2), np.float32)
    x[0, :2, 2:, 1] = 8.0  # upper right, second channel
    inputs = keras.Input((4, 4, 2))
    received = keras.Model(inputs, cutting._pool(inputs, "grid2"))(x)
    assert np.asarray(received).tolist() == [[0, 0, 0, 8, 0, 0, 0, 0]]


def test_cells_whose_bounds_fall_inside_a_pixel_share_it():
    np.testing.assert_allclose(cutting.cell_weights(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-7)


@pytest.mark.parametrize(("pooling", "expected"), [("avg", lambda x: x.mean((1, 2))), ("max", lambda x: x.max((1, 2)))])
def test_plain_poolings(pooling, expected):
    received = cutting.trunk(TINY, branching(), cut="image", pooling=pooling)(PIXELS)
    np.testing.assert_allclose(received, expected(PIXELS / 127.5 - 1), rtol=1e-5, atol=1e-6)
