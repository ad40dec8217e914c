"""A model's graph of OpenVINO's own operations, or of ONNX's, gives what the model gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backbones import cutting, tails
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.cutting import OF_MAPS
from pipeline.backbones.engines import operations
from pipeline.backbones.engines.onnx_operations import AXES_ENTER, OPSET, OnnxOperations
from pipeline.backbones.engines.openvino import OpenVINOEngine
from pipeline.backbones.network import Network
from pipeline.backbones.weights import load
from pipeline.features import resolve
from pipeline.features.settings import FeatureSettings
from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.calibration import calibrate
from pipeline.models import assemble, graph, store
from pipeline.models.numpy_head import Readout
from tests.models.test_store import stack

SIZE = 40


def plan(cut: str) -> resolve.Plan:
    return resolve.plan(FeatureSettings(backbone="efficientnet_lite0", size=SIZE, cut=cut, engine="openvino"))


def photos() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


def run(model: object, rows: np.ndarray | None = None) -> np.ndarray:
    entering = photos() if rows is None else rows
    return np.concatenate(list(OpenVINOEngine(model, precision="float32").run([entering])))


@pytest.fixture(scope="module")
def below() -> tuple[Backbone, Network]:
    planned = plan("block-15")
    network = load(planned.backbone, size=SIZE, alpha=1.0, weights=planned.weights, listed=True)
    return planned.backbone, network.up_to(planned.spec["cut"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_head_gives_in_the_graph_what_it_gives_in_numpy(below: tuple[Backbone, Network], activation: str) -> None:
    cuts = [(below[1].layers[-1].name, "avg")]
    pixels, (features,) = operations.features(*below, cuts)
    rows = run(operations.model(pixels, features, "trunk"))
    for widths, temperature in (((3,), 1.0), ((6, 1), 1.0), ((6, 5, 3), 2.5)):
        head = replace(stack(rows.shape[1], *widths), activation=activation)
        pixels, (features,) = operations.features(*below, cuts)
        found = run(graph.joined(pixels, features, head, temperature=temperature))
        expected = calibrate.apply(Readout(head, "avg").probabilities(rows), temperature)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        ops = OnnxOperations()
        graph.probabilities(ops, ops.parameter("in", np.float32), head, temperature=temperature)
        np.testing.assert_allclose(run_onnx(ops, rows, expected.shape[1:]), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", OF_MAPS)
def test_onnx_s_operators_give_the_features_that_openvino_s_give(below: tuple[Backbone, Network], pooling: str) -> None:
    cuts = [(below[1].layers[-1].name, pooling)]
    pixels, (features,) = operations.features(*below, cuts)
    expected = run(operations.model(pixels, features, "trunk"))
    for opset in (OPSET, AXES_ENTER):
        ops = OnnxOperations(opset)
        operations.computed(ops, *below, cuts, ops.parameter("in", np.float32))
        found = run_onnx(ops, photos().transpose(0, 3, 1, 2).astype(np.float32), expected.shape[1:])
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def run_onnx(ops: OnnxOperations, entering: np.ndarray, leaving: tuple[int, ...]) -> np.ndarray:
    import onnxruntime
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", *sides))
        for name, sides in (("in", entering.shape[1:]), ("out", leaving))
    ]
    session = onnxruntime.InferenceSession(ops.model(*ends).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["out"], {"in": entering})[0]


@pytest.mark.parametrize("new_conv", [(), (6, 4)])
def test_a_model_gives_the_same_whether_its_layers_are_built_or_listed(
    tmp_path: Path, new_conv: tuple[int, ...]
) -> None:
    planned = plan("block-12")
    base = load(planned.backbone, size=SIZE, alpha=1.0, weights=planned.weights)
    where = {"cut": planned.spec["cut"], "pooling": "grid2"}
    trunk = assemble.flat(tails.topped(planned.backbone, base, **where, widths=new_conv, seed=1))
    head = stack(trunk.output_shape[1], 5, 3)
    store.save(
        tmp_path,
        trunk,
        assemble.head_network(head),
        head,
        store.Record(
            classes=["a", "b", "c"],
            threshold=None,
            spec={**planned.spec, **where},
            new_conv=new_conv,
            layers=[],
            history=[],
            made={"finetuning": None, "best_epoch": 0},
        ),
    )
    model = store.read(tmp_path)
    for listed, built in (
        (model.network(listed=True), model.network()),
        (model.trunk(pooling=None, listed=True), model.trunk(pooling=None)),
        (model.trunk(pooling="none", listed=True), model.trunk(pooling="none")),
    ):
        found, expected = run(listed), np.asarray(built(photos()))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    activations = np.asarray(cutting.trunk(planned.backbone, base, cut="block-14", pooling="none")(photos()))
    found = run(model.network(above="block-14", listed=True), activations)
    np.testing.assert_allclose(found, run(model.network(listed=True)), atol=1e-5)
