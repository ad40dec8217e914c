"""A model is a folder of plain files: what is read from one is checked, and nothing in it is run."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.backbones import cutting, weights
from pipeline.errors import ArtefactError
from pipeline.heads.calibration import calibrate
from pipeline.heads.dense_layers import Stack
from pipeline.models import assemble, store
from pipeline.storage.json_files import publish
from tests import fakes

SIZE = 32
HISTORY = [{"epoch": 1, "loss": 0.7, "accuracy": 0.5}, {"epoch": 2, "loss": 0.4, "accuracy": 0.75}]


def stack(inputs: int, *widths: int, seed: int = 0) -> Stack:
    draw = np.random.default_rng(seed)
    return Stack(
        mean=draw.normal(size=inputs),
        scale=draw.uniform(0.5, 2, inputs),
        kernels=[draw.normal(size=shape).astype(np.float32) for shape in zip([inputs, *widths], widths, strict=False)],
        biases=[draw.normal(size=width).astype(np.float32) for width in widths],
        activation="relu",
        dropout=0.25,
        l1=0.0,
        l2=1e-4,
    )


@pytest.fixture(autouse=True, scope="module")
def small_base(table_of_backbones: None) -> None:
    fakes.register_tiny()


def save(
    folder: Path,
    history: list[dict[str, float]] = HISTORY,
    head: Stack | None = None,
    calibrated: Any = None,
    decoder: str = "pillow",
) -> Any:
    plan = fakes.plan(size=SIZE, backbone="tiny", decoder=decoder)
    base = weights.load(plan.backbone, size=SIZE, alpha=1.0, weights=plan.weights)
    trunk = assemble.flat(cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling="avg"))
    head = head or stack(16, 5, 3)
    network = assemble.head_network(head)
    classes = ["a", "b", "c"] if head.widths[-1] == 3 else ["a", "b"]
    layers = [store.LayerState("stem_conv", "Conv2D", "trunk", 216, 0)]
    store.save(
        folder,
        trunk,
        network,
        head,
        store.Record(
            classes=classes,
            threshold=None,
            spec=plan.spec,
            new_conv=(),
            layers=layers,
            history=history,
            made={"finetuning": None, "best_epoch": len(history)},
            calibration=calibrated,
        ),
    )
    return assemble.join(trunk, network)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "model"
    save(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("widths", [(3,), (5, 3), (1,), (4, 4, 1)])
def test_a_model_read_back_gives_the_same_bits(tmp_path: Path, widths: tuple[int, ...]) -> None:
    network = save(tmp_path / "m", head=stack(16, *widths))
    again = store.read(tmp_path / "m").network()
    found = np.array(again(pixels()))
    assert np.array_equal(found, np.array(network(pixels())))
    assert found.shape == (5, 2 if widths[-1] == 1 else 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("widths", [(3,), (5, 1)])
def test_the_network_of_a_calibrated_model_gives_calibrated_probabilities(
    tmp_path: Path, widths: tuple[int, ...]
) -> None:
    plain = save(tmp_path / "m", head=stack(16, *widths))
    identity = store.read(tmp_path / "m").identity
    save(tmp_path / "m", head=stack(16, *widths), calibrated={"temperature": 2.5})
    model = store.read(tmp_path / "m")
    assert (model.temperature, model.document["calibration"]) == (2.5, {"temperature": 2.5})
    assert model.identity != identity
    expected = calibrate.apply(store.normalised(np.array(plain(pixels()))), 2.5)
    np.testing.assert_allclose(np.array(model.network()(pixels())), expected, atol=1e-6)


@pytest.mark.parametrize("damaged", [{"temperature": 0.0}, {"temperature": "2"}, {}, 2.0])
def test_a_damaged_temperature_is_refused(folder: Path, damaged: object) -> None:
    document = json.loads((folder / "model.json").read_text())
    publish(folder / "model.json", document | {"calibration": damaged})
    with pytest.raises(ArtefactError, match=r"expected (a calibration with a temperature from|calibration)"):
        store.read(folder)


def test_reading_tells_what_was_written(folder: Path) -> None:
    model = store.read(folder)
    assert (model.classes, model.size, model.history) == (["a", "b", "c"], SIZE, HISTORY)
    assert model.document["layers"] == [
        {"name": "stem_conv", "kind": "Conv2D", "place": "trunk", "parameters": 216, "trained": 0}
    ]
    digest = hashlib.sha256((folder / "weights.h5").read_bytes()).hexdigest()
    assert model.spec["weights"] == {"seed": 0, "finetuned": digest}
    assert store.is_model(folder)
    assert not store.is_model(folder.parent)


def test_weights_that_were_only_joined_are_still_those_of_the_base(tmp_path: Path) -> None:
    save(tmp_path, history=[])
    assert store.read(tmp_path).spec == fakes.plan(size=SIZE, backbone="tiny").spec
    assert not (tmp_path / "history.csv").exists()


def test_saving_again_replaces_what_was_there(tmp_path: Path, folder: Path) -> None:
    first = store.read(folder).identity
    save(folder, history=[])
    assert store.read(folder).identity != first
    save(folder)
    assert store.read(folder).identity == first


# --- damaged and hostile


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    publish(path, document)


def resign(folder: Path) -> None:
    """Let model.json hold the digest of the weights as they are now."""
    digest = hashlib.sha256((folder / "weights.h5").read_bytes()).hexdigest()
    edit(folder, lambda document: document["files"].update({"weights.h5": digest}))


@pytest.mark.parametrize("name", ["model.json", "weights.h5", "history.csv"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=rf"{name}: expected .*; run `hs.finetune` again"):
        store.read(folder)


@pytest.mark.parametrize("name", ["weights.h5", "history.csv"])
def test_a_flipped_bit_is_noticed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=rf"{name}: expected sha256 "):
        store.read(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=2),
        lambda d: d.update(classes=["a"]),
        lambda d: d.update(classes=["a", "b", "c", "d"]),
        lambda d: d["spec"].update(size=10**9),
        lambda d: d["spec"].update(cut="no such layer"),
        lambda d: d["spec"]["backbone"].update(name="vgg99"),
        lambda d: d["spec"]["backbone"].update(alpha=1e9),
        lambda d: d["spec"].update(preprocessing="os:system"),
        lambda d: d.update(new_conv=[10**12]),
        lambda d: d["head"].update(widths=[10**12, 3]),
        lambda d: d["head"].update(n_features=17),
        lambda d: d["head"].update(activation="exec"),
        lambda d: d["head"].update(widths=[]),
        lambda d: d.update(head=None),
        lambda d: d.update(files={"../other": "0"}),
    ],
)
def test_a_description_of_another_network_is_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)
    with pytest.raises(ArtefactError, match=r"model\.json"):
        store.read(folder).network()


def test_text_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text("[" * 100_000)
    with pytest.raises(ArtefactError, match=r"model\.json: expected a model in JSON"):
        store.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("stem_conv.0"), "arrays, received .* not in both: stem_conv"),
        (lambda file: file.create_dataset("more", data=1), "not in both: more"),
        (
            lambda file: file["stem_conv.0"].write_direct(np.full(file["stem_conv.0"].shape, np.nan, np.float32)),
            "to be finite",
        ),
        (lambda file: file["head.scale"].write_direct(np.zeros(16)), "head.scale above 0"),
        (
            lambda file: (file.pop("stem_conv.0"), file.create_dataset("stem_conv.0", data=np.zeros(3))),
            r"stem_conv\.0 ",
        ),
        (
            lambda file: (file.pop("stem_conv.0"), file.update({"stem_conv.0": h5py.ExternalLink("/etc/passwd", "x")})),
            "a dataset of the file's own",
        ),
    ],
)
def test_arrays_that_are_not_the_networks_are_refused(
    folder: Path, change: Callable[[Any], object], message: str
) -> None:
    with h5py.File(folder / "weights.h5", "r+") as file:
        change(file)
    resign(folder)
    with pytest.raises(ArtefactError, match=message):
        store.read(folder).network()
