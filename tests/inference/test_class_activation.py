"""A heat map says what the network computed: its shares add up to the logit, and it lies where the photo shows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backbones import cutting, tails
from pipeline.backbones.weights import load
from pipeline.errors import ArtefactError, InputError
from pipeline.heads.dense_layers import Stack
from pipeline.heads.knn import KnnHead
from pipeline.heads.store import save
from pipeline.inference import class_activation
from pipeline.inference.class_activation import Explainer, overlay, placed
from pipeline.models import assemble, store
from pipeline.models.numpy_head import Readout
from pipeline.models.settings import Runtime
from tests.fakes import plan, register_tiny

SIZE = 32
TEMPERATURE = 2.0  # of the models, which divides their logits before they become probabilities
CHANNELS = 16  # of the tiny base at its top, whose maps are 8 by 8 there


def random_stack(inputs: int, widths: Sequence[int], *, activation: str = "linear", seed: int = 0) -> Stack:
    draw = np.random.default_rng(seed)
    shapes = list(zip([inputs, *widths], widths, strict=False))
    return Stack(
        mean=draw.normal(size=inputs),
        scale=draw.uniform(0.5, 2, inputs),
        kernels=[draw.normal(size=shape).astype(np.float32) for shape in shapes],
        biases=[draw.normal(size=width).astype(np.float32) for width in widths],
        activation=activation,
        dropout=0.0,
        l1=0.0,
        l2=0.0,
    )


def random_maps(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FEATURES = {"avg": 5, "max": 5, "grid2": 20, "grid3": 45, "flatten": 210, "none": 210}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("pooling", [name for name in FEATURES if name != "max"])
def test_of_a_linear_head_the_mean_of_the_map_and_the_bias_are_the_logit(pooling: str, classes: int) -> None:
    readout = Readout(random_stack(FEATURES[pooling], [1 if classes == 2 else classes]), pooling)
    maps = random_maps(3, 6, 7, 5)
    features = readout.features(maps)
    bias = readout.logits(np.zeros_like(features))
    assert readout.linear
    for code in range(classes):
        heat = class_activation.heat(readout, maps, np.full(3, code))
        assert heat.shape == (3, 6, 7)
        assert heat.mean(axis=(1, 2)) + bias[:, code] == pytest.approx(readout.logits(features)[:, code], abs=1e-4)


def test_with_average_pooling_it_is_the_class_activation_map() -> None:
    stack = random_stack(5, [3])
    maps = random_maps(2, 4, 4, 5)
    expected = maps @ (stack.kernels[0][:, 1] / stack.scale)
    assert class_activation.heat(Readout(stack, "avg"), maps, np.array([1, 1])) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("pooling", "widths"), [("avg", [8, 3]), ("grid2", [8, 1]), ("max", [3]), ("flatten", [6, 3])])
def test_otherwise_it_is_the_positive_part_of_the_channels_weighed_by_their_mean_gradient(
    pooling: str, widths: list[int]
) -> None:
    readout = Readout(random_stack(FEATURES[pooling], widths, activation="relu"), pooling)
    maps, codes = random_maps(2, 6, 7, 5), np.array([1, 0])
    gradient = np.zeros(maps.shape)
    for place in np.ndindex(maps.shape[1:]):
        step = np.zeros_like(maps)
        step[:, *place] = 1e-2
        apart = [readout.logits(readout.features(maps + sign * step))[[0, 1], codes] for sign in (1, -1)]
        gradient[:, *place] = (apart[0] - apart[1]) / 2e-2
    expected = np.maximum(np.einsum("nhwc,nc->nhw", maps, gradient.sum(axis=(1, 2))), 0)
    found = class_activation.heat(readout, maps, codes)
    assert not readout.linear
    assert found == pytest.approx(expected, abs=1e-2 * float(expected.max()))
    assert found.max() > found.min() >= 0


def test_a_head_for_other_features_is_refused() -> None:
    with pytest.raises(ArtefactError, match="expected a head for 5 features, received 4"):
        Readout(random_stack(4, [1]), "avg").features(random_maps(1, 2, 2, 5))


# --- heads and models


def saved_model(folder: Path, *, widths: list[int], pooling: str, tuned: bool) -> Any:
    """A tiny base with a random head, joined; as if fine-tuned, with a convolution of its own and a history."""
    register_tiny()
    chosen = plan(size=SIZE, backbone="tiny", pooling=pooling)
    base = load(chosen.backbone, size=SIZE, alpha=1.0, weights=chosen.weights)
    new_conv = (CHANNELS,) if tuned else ()
    if tuned:
        trunk = tails.topped(chosen.backbone, base, cut="block-1", pooling=pooling, widths=new_conv, seed=0)
    else:
        trunk = cutting.trunk(chosen.backbone, base, cut="top", pooling=pooling)
    spec = chosen.spec | ({"cut": "block-1"} if tuned else {})
    stack = random_stack(assemble.flat(trunk).output.shape[1], widths, activation="relu" if widths[1:] else "linear")
    head = assemble.head_network(stack)
    store.save(
        folder,
        assemble.flat(trunk),
        head,
        stack,
        store.Record(
            classes=["bright", "dark"] if widths[-1] == 1 else ["a", "b", "c"],
            threshold=None,
            calibration={"temperature": TEMPERATURE},
            spec=spec,
            new_conv=new_conv,
            layers=[],
            history=[{"epoch": 1, "loss": 0.5, "accuracy": 0.9}] if tuned else [],
            made={},
        ),
    )
    return folder


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def explainer(folder: Path, engine: str = "tensorflow", batch_size: int = 2) -> Explainer:
    return Explainer(folder, Runtime(engine=engine, batch_size=batch_size, cache=folder.parent / "cache"))


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
@pytest.mark.parametrize("tuned", [False, True])
def test_the_shares_of_a_model_add_up_to_what_its_network_gives(tmp_path: Path, tuned: bool, engine: str) -> None:
    folder = saved_model(tmp_path / "model", widths=[3], pooling="avg", tuned=tuned)
    asked, pixels = explainer(folder, engine), noise(5)
    probability = np.array(store.read(folder).network()(pixels), np.float64)
    bias = asked._trained.readout.logits(np.zeros((1, CHANNELS), np.float32))[0]
    logits = np.stack([asked.heat(pixels, np.full(5, code)).mean(axis=(1, 2)) + bias[code] for code in range(3)], 1)
    assert asked.exact
    odds = np.exp(logits / TEMPERATURE)
    assert odds / odds.sum(axis=1, keepdims=True) == pytest.approx(probability, abs=1e-4)


def test_a_model_with_hidden_layers_is_explained_by_gradients(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = saved_model(tmp_path / "model", widths=[4, 1], pooling="grid2", tuned=False)
    asked, pixels = explainer(folder), noise(3)
    model = store.read(folder)
    maps = tf.constant(model.trunk(pooling="none")(pixels))
    head = assemble.head_network(model.stack())
    with tf.GradientTape() as tape:
        tape.watch(maps)
        cells = tf.reshape(maps, (-1, 2, 4, 2, 4, CHANNELS))
        logit = head(tf.reshape(tf.reduce_mean(cells, axis=(2, 4)), (3, -1)))
    weights = tape.gradient(logit, maps).numpy().sum(axis=(1, 2))
    expected = np.maximum(np.einsum("nhwc,nc->nhw", maps.numpy(), weights), 0)
    assert not asked.exact
    assert asked.heat(pixels, np.array([1, 1, 1])) == pytest.approx(expected, abs=1e-4 * float(expected.max()))


def test_no_photos_have_no_maps(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model", widths=[3], pooling="avg", tuned=False)
    assert explainer(folder).heat(noise(0), np.empty(0, np.int64)).shape == (0, 8, 8)


def test_a_head_that_compares_with_its_training_rows_is_refused(tmp_path: Path) -> None:
    rows, codes = np.random.default_rng(0).normal(size=(10, 12)).astype(np.float32), np.arange(10) % 2
    head = KnnHead(neighbors=3, metric="cosine", class_weight=None)
    record = {"classes": ["a", "b"], "spec": plan(size=SIZE).spec}
    save(head.fit(rows, codes, None), tmp_path / "head", record)
    with pytest.raises(InputError, match="knn: expected a head that is a map of the features"):
        explainer(tmp_path / "head")


# --- on the photo


def test_a_map_is_stretched_over_the_photo_that_was_squashed() -> None:
    found = placed(np.array([[0, 0], [0, 1]], np.float32), width=40, height=20, geometry="squash")
    assert found.shape == (20, 40)
    assert np.unravel_index(found.argmax(), found.shape) >= (12, 25)


@pytest.mark.parametrize(("width", "height"), [(41, 20), (20, 41), (30, 30)])
def test_of_a_photo_that_was_cropped_only_the_middle_is_covered(width: int, height: int) -> None:
    found = placed(np.ones((4, 4), np.float32), width=width, height=height, geometry="crop")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    assert found.shape == (height, width)
    assert found[top : top + side, left : left + side] == pytest.approx(1)
    assert found.sum() == pytest.approx(side * side)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 41)])
def test_of_a_photo_that_was_padded_the_bars_are_left_out(width: int, height: int) -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[1:3] = 1  # the middle rows: on a wide photo all of it
    found = placed(heat, width=width, height=height, geometry="pad")
    assert found.shape == (height, width)
    assert (found.mean() > 0.9) == (width > height)


def test_what_does_not_speak_for_the_class_stays_as_it_is() -> None:
    pixels = noise(1)[0]
    heat = np.full((SIZE, SIZE), -1, np.float32)
    heat[:, SIZE // 2 :] = 2
    found = overlay(pixels, heat)
    assert (found[:, : SIZE // 2] == pixels[:, : SIZE // 2]).all()
    assert (found[:, SIZE // 2 :] != pixels[:, SIZE // 2 :]).any(axis=-1).all()
    assert (overlay(pixels, -np.ones((2, 2), np.float32)) == pixels).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 8), (240, 240)), ((400, 300), (400, 300)), ((1280, 20), (640, 10))]
)
def test_small_photos_are_enlarged_and_large_ones_reduced(size: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    found = class_activation.shown(pixels, np.ones((2, 2), np.float32), geometry="squash")
    assert found.shape == (expected[1], expected[0], 3)
