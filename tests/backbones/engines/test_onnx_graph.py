import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.backbones.cutting import cell_weights
from pipeline.backbones.engines.engine import open_engine
from pipeline.backbones.engines.onnx_graph import OnnxGraph
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.backbones.scaling import Scaling
from pipeline.errors import CutError, WeightsError
from tests import onnx_graphs

PHOTOS = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
ENTERING = Scaling.of(onnx_graphs.SCALE, onnx_graphs.OFFSET)


def features(path: Path, cut: str, pooling: str, entering: Scaling = ENTERING) -> np.ndarray:
    """What the engine gives for photos that fill one run of the graph and part of another."""
    graph = OnnxGraph(path, size=32, scaling=entering)
    engine = open_engine(
        "openvino", lambda: graph.trunk([(cut, pooling)])[0], batch_size=32, precision="float32", kept=None
    )
    return np.concatenate(list(engine.run([PHOTOS])))


def exported(path: Path, cut: str, pooling: str) -> np.ndarray:
    """What the same features are in ONNX's operators, as an export has them, by ONNX Runtime."""
    import onnxruntime

    ops = OnnxOperations()
    planes = ops.cast(ops.parameter("planes", np.uint8), "float32")
    OnnxGraph(path, size=32, scaling=ENTERING).in_onnx(ops, planes, cut, pooling)
    model = ops.model(
        helper.make_tensor_value_info("planes", TensorProto.UINT8, ("n", 3, 32, 32)),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, None),
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"planes": PHOTOS.transpose(0, 3, 1, 2).copy()})[0]


def grid(maps: np.ndarray, cells: int) -> np.ndarray:
    down, across = cell_weights(maps.shape[2], cells), cell_weights(maps.shape[3], cells)
    return np.einsum("ih,nchw,jw->nijc", down, maps, across).reshape(len(maps), -1)


OF_MAPS = {
    "avg": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.max((2, 3)),
    "grid2": lambda maps: grid(maps, 2),
    "grid3": lambda maps: grid(maps, 3),
    "flatten": lambda maps: maps.transpose(0, 2, 3, 1).reshape(len(maps), -1),
    "none": lambda maps: maps.transpose(0, 2, 3, 1),
}


def patches(tokens: np.ndarray) -> np.ndarray:
    return tokens[:, 2:].transpose(0, 2, 1).reshape(len(tokens), -1, 2, 2)


OF_TOKENS = {
    **{name: lambda tokens, pool=OF_MAPS[name]: pool(patches(tokens)) for name in ("avg", "max", "grid2", "grid3")},
    "flatten": lambda tokens: tokens.reshape(len(tokens), -1),
    "none": lambda tokens: tokens,
    "cls": lambda tokens: tokens[:, 0],
    "cls+mean": lambda tokens: np.concatenate([tokens[:, 0], tokens[:, 2:].mean(1)], 1),
}


@pytest.mark.parametrize(
    ("make", "cut", "pooled"),
    [
        pytest.param("maps", "r1", OF_MAPS, id="an inner map"),
        pytest.param("maps", "x", {"grid2": OF_MAPS["grid2"]}, id="the image"),
        pytest.param("maps", "y", {"avg": lambda row: row, "flatten": lambda row: row}, id="the top, a row"),
        pytest.param("tokens", "y", OF_TOKENS, id="the top, tokens"),
        pytest.param("tokens", "t", {"avg": OF_TOKENS["avg"]}, id="inner tokens"),
    ],
)
def test_features_are_those_of_onnxruntime(make, cut, pooled, tmp_path):
    path = getattr(onnx_graphs, make)(tmp_path / "a.onnx")
    tensor = onnx_graphs.run(path, PHOTOS, cut)
    for pooling, pool in pooled.items():
        expected = pool(tensor)
        for computed in (features, exported):
            np.testing.assert_allclose(computed(path, cut, pooling), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [("n", 3, 32, 32), (1, 3, 32, 32), ("n", 3, "h", "w"), (-1, 3, -1, -1)])
def test_fixed_and_open_sides_give_the_same(shape, tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx", shape=shape)
    expected = onnx_graphs.run(onnx_graphs.maps(tmp_path / "b.onnx"), PHOTOS, "y")
    np.testing.assert_allclose(features(path, "y", "avg"), expected, atol=1e-4 * np.abs(expected).max())


def test_channels_last_and_the_order_bgr_are_heeded(tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx", channels_last=True)
    expected = onnx_graphs.run(path, PHOTOS, "r2", channels_last=True, bgr=True).transpose(0, 2, 3, 1)
    entering = Scaling.of(onnx_graphs.SCALE, onnx_graphs.OFFSET, "bgr")
    np.testing.assert_allclose(features(path, "r2", "none", entering), expected, atol=1e-4 * np.abs(expected).max())
    image = PHOTOS[..., ::-1] * np.array(onnx_graphs.SCALE[::-1]) + np.array(onnx_graphs.OFFSET[::-1])
    np.testing.assert_allclose(features(path, "x", "none", entering), image, atol=1e-4)


def test_several_trunks_lie_side_by_side_and_one_image_can_be_first(tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx")
    model, widths = OnnxGraph(path, size=32, scaling=ENTERING).trunk([("r1", "grid2"), ("y", "avg"), ("r1", "avg")])
    assert widths == [32, 6, 8]
    engine = open_engine("openvino", lambda: model, batch_size=1, precision="float32", kept=None, prompt=True)
    (row,) = engine.run([PHOTOS[:1]])
    np.testing.assert_allclose(row[:, 32:38], onnx_graphs.run(path, PHOTOS[:1], "y"), atol=1e-4)


@pytest.mark.parametrize("norm", [True, False])
def test_last4_is_the_class_tokens_of_the_last_four_blocks_normed_as_the_top_is(norm, tmp_path):
    path = onnx_graphs.transformer(tmp_path / "a.onnx", norm=norm)
    expected = [onnx_graphs.run(path, PHOTOS, f"b{place}")[:, 0] for place in range(1, 5)]
    if norm:
        arrays = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
        centred = [row - row.mean(axis=1, keepdims=True) for row in expected]
        expected = [row / np.sqrt(row.var(axis=1, keepdims=True) + 1e-5) for row in centred]
        expected = [row * arrays["scale"] + arrays["shift"] for row in expected]
    found = features(path, "y", "last4")
    np.testing.assert_allclose(exported(path, "y", "last4"), found, atol=1e-4 * np.abs(found).max())
    assert np.abs(found[:, 15:] - onnx_graphs.run(path, PHOTOS, "y")).max() < 1e-4 * np.abs(found).max()
    np.testing.assert_allclose(found, np.concatenate(expected, 1), atol=1e-4 * np.abs(found).max())


@pytest.mark.parametrize(
    ("make", "cut", "pooling", "told"),
    [
        ("maps", "y", "last4", "where no 4 blocks of tokens with a class token were found"),
        ("tokens", "y", "last4", "where no 4 blocks of tokens with a class token were found"),
        ("transformer", "b3", "last4", "another but at the top, alone"),
        ("maps", "r3", "avg", r"did you mean r2 or r1\?"),
        ("maps", "w1", "avg", "'w1'"),
        ("maps", "y", "max", r"avg at y, whose shape is \(4, 6\)"),
        ("maps", "r1", "cls", "avg, max, a grid, flatten or none at r1"),
        ("maps", "r1", "middle", "one of avg, max"),
        ("without", "y", "cls", "whose 4 tokens are patches alone"),
        ("tokens", "count", "avg", "'count'"),
    ],
)
def test_what_cannot_be_cut_is_told_in_a_line(make, cut, pooling, told, tmp_path):
    path = tmp_path / "a.onnx"
    path = onnx_graphs.tokens(path, before=0) if make == "without" else getattr(onnx_graphs, make)(path)
    with pytest.raises(CutError, match=told) as caught:
        OnnxGraph(path, size=32, scaling=ENTERING).trunk([(cut, pooling)])
    assert "\n" not in str(caught.value)


def test_an_export_takes_files_of_any_opset_and_any_number_of_images_and_nothing_above_the_cut(tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx")
    model = onnx.load(path)
    expected = onnx_graphs.run(path, PHOTOS, "r1").mean((2, 3))
    for opset in (11, 21):
        model.opset_import[0].version = opset
        onnx.save(model, path)
        np.testing.assert_allclose(exported(path, "r1", "avg"), expected, atol=1e-5)
    ops = OnnxOperations()
    OnnxGraph(path, size=32, scaling=ENTERING).in_onnx(ops, ops.parameter("planes", np.float32), "r1", "avg")
    assert [one.op_type for one in ops.nodes].count("Conv") == 1
    assert ops.opset == 21
    assert "w2" not in str(ops.constants) and len([one for one in ops.constants.values() if one.ndim == 4]) == 3
    onnx_graphs.maps(path, shape=(1, 3, 32, 32))
    with pytest.raises(WeightsError, match="takes 1: write it anew with an open first axis"):
        exported(path, "r1", "avg")


def node(kind: str, *inputs: str, **attributes: object) -> object:
    return helper.make_node(kind, list(inputs), ["c"], **attributes)


MEAN = helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3])
SUM = [helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])]
HUGE = {"n": np.array([200_000, 20_000])}


@pytest.mark.parametrize(
    ("nodes", "arrays", "told"),
    [
        pytest.param([node("ConstantOfShape", "n"), *SUM], HUGE, "200000,20000", id="constant of shape"),
        pytest.param(
            [node("Expand", "o", "n"), *SUM], HUGE | {"o": np.ones((1, 1), np.float32)}, "200000,20000", id="expand"
        ),
        pytest.param([node("Tile", "x", "n"), MEAN], {"n": np.array([1, 1, 5000, 5000])}, "160000", id="tile"),
        pytest.param(
            [
                helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
                helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
                helper.make_node("Reshape", ["whole", "one"], ["n"]),
                node("ConstantOfShape", "n"),
                *SUM,
            ],
            {"one": np.array([1])},
            "which the image decides",
            id="the image decides",
        ),
        pytest.param([node("Reshape", "x", "n"), MEAN], {"n": np.array([1, 3, 32, 32])}, "cannot run it", id="folded"),
    ],
)
def test_a_graph_without_bounds_is_refused_before_it_is_compiled(nodes, arrays, told, tmp_path):
    path = onnx_graphs.write(tmp_path / "a.onnx", nodes, arrays)
    with pytest.raises(WeightsError, match=told) as caught:
        OnnxGraph(path, size=32, scaling=ENTERING).trunk([("y", "flatten")])
    assert "\n" not in str(caught.value)
    assert math.prod(HUGE["n"]) > 2**30
