"""One flipped bit in anything that a command reads: it is found or does no harm, and ends in no traceback.

The tests flip a few bits of each artefact. ``python -m tests.test_flips 120`` flips as many as it is told, and prints
what became of them.
"""

import itertools
import json
import random
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from pipeline.audit import tables as audit_tables
from pipeline.backbones import keras_weights, weights_file, without_telemetry
from pipeline.backbones.engines import graphs
from pipeline.errors import EditedWarning, HeadstartError
from pipeline.evaluation import predictions_file
from pipeline.evaluation.compare import COMPARED
from pipeline.evaluation.predictions_file import METRICS, PREDICTIONS, Predictions
from pipeline.export import bundle
from pipeline.features import features_file, throughput
from pipeline.features.cache import inventory, kept_weights, shard
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.resolve import found_again
from pipeline.heads.store import load as load_head
from pipeline.models import store as models
from pipeline.models.finetuning import checkpoints
from pipeline.photos import manifest
from pipeline.report import artefacts
from pipeline.report.collect import GROWTH
from pipeline.storage.digests import of_file
from pipeline.storage.json_files import publish, publish_digests
from stages import history
from tests import test_tampering
from tests.fakes import write_views

FLIPS = 12


class Artefact(NamedTuple):
    """A file, what reads it, and what becomes of one that is damaged.

    Attributes
    ----------
    made_anew : bool
        It is made again instead of refused.
    foreign : bool
        No step wrote it, so nobody knows what it was: its sha256 names what is made of it.
    """

    path: Path
    read: Callable[[Path], Any]
    made_anew: bool = False
    foreign: bool = False


def artefacts_in(folder: Path) -> Iterator[Artefact]:
    """Write one of each."""
    for kind in (one.name for one in test_tampering.kinds(made(folder / "kinds"))):
        place = folder / kind
        place.mkdir()
        found = next(one for one in test_tampering.kinds(place) if one.name == kind)
        if kind != "head.json":
            (place / "head.json").unlink()
        test_tampering.put(place / kind, found.text)
        yield Artefact(place / kind, COMPARED.read if kind == "comparison.json" else found.doors[0])
    yield Artefact(folder / "head.json/arrays.npz", lambda path: told(load_head(path.parent)))
    yield Artefact(folder / "model.json/weights.h5", lambda path: models.read(path.parent).document)
    yield Artefact(folder / "export.json/model.onnx", lambda path: bundle.read(path.parent).classes)
    yield Artefact(folder / "audit.json/digests.json", lambda path: artefacts.AUDIT.read(path.with_name("audit.json")))
    yield from tables_in(folder)

    speed = folder / "speed-a.json"
    publish(speed, asdict(throughput.Speed("a", 1, 100, 2.5)))
    yield Artefact(speed, lambda path: throughput.kept(path.parent) or None, made_anew=True)
    growth = folder / "growth.json"
    publish(growth, {"gain": 0.1})
    yield Artefact(growth, GROWTH.read)

    keys = np.arange(24, dtype=">u4").view(np.uint8).reshape(3, 32)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    features = folder / "features.h5"
    features_file.write(features, spec='{"size": 3}', digests=keys, row_shape=(4,), dtype="float32", blocks=[values])
    yield Artefact(features, read_features)
    varied, rows = folder / "views.h5", np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    write_views(varied, keys, rows, spec='{"size": 3}', described={"policy": {}}, of=[0, 2])
    yield Artefact(varied, read_features)
    data = shard.encode("0" * 64, keys, values, view="0")
    (folder / shard.name_of(data)).write_bytes(data)
    yield Artefact(folder / shard.name_of(data), lambda path: shard.Shard.verified(path)[1].tolist())
    weights = made(folder / "carrying") / kept_weights.CARRIED
    weights.write_bytes(data)
    spec = {**test_tampering.SPEC, "weights": {"sha256": of_file(weights)}}
    yield Artefact(weights, lambda path: found_again(spec, path.parent, None))
    root = folder / "carrying"
    kept_weights.keep(root, weights, of_file(weights))
    yield Artefact(kept_weights.kept(root)[0], lambda path: kept_weights.find(root, path.name), made_anew=True)
    state = checkpoints.State([values], [values[:1]], [values[1:]], 1, [{"epoch": 1, "loss": 0.5}])
    checkpoints.keep(folder / checkpoints.CHECKPOINT, state)
    yield Artefact(folder / checkpoints.CHECKPOINT, lambda path: told(checkpoints.found(path, state)), made_anew=True)
    yield from in_the_cache(folder / "cache")
    yield from weights_of_a_user(made(folder / "given"))


def in_the_cache(root: Path) -> Iterator[Artefact]:
    """What describes rows, and a graph that an engine kept."""
    kept = RowCache(root, spec='{"size":32}', dtype="float32", view="0")
    kept.add(np.zeros((1, 32), np.uint8), np.ones((1, 4), np.float32))
    yield Artefact(kept.folder.parent / "spec.json", lambda path: inventory.contents(root)[0].spec, made_anew=True)
    runtime = without_telemetry.openvino()
    from openvino import opset8 as operations

    graph = root / "graphs" / "a" / "openvino-1"
    pixels = operations.parameter([4, 8, 8, 3], np.float32)
    graphs._keep(
        runtime.Model([operations.relu(operations.add(pixels, np.arange(3, dtype=np.float32)))], [pixels]), graph
    )
    for name in (*graphs.GRAPH_FILES, graphs.DIGESTS_FILE):
        yield Artefact(graph / name, read_graph, made_anew=True)


def read_graph(path: Path) -> Any:
    """Read a kept graph as an engine does, in a copy of its folder: one that is damaged is removed."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / path.parent.parent.name / path.parent.name
        shutil.copytree(path.parent, copy)
        return graphs._read(copy) and [step.get_type_name() for step in graphs._read(copy).get_ordered_ops()]


def weights_of_a_user(folder: Path) -> Iterator[Artefact]:
    """A file of `weights=FILE` in each layout."""
    layer = type("Dense", (), {"name": "dense", "weights": [np.ones((3, 2), np.float32), np.ones(2, np.float32)]})()
    base = SimpleNamespace(name="base", layers=[layer], weights=layer.weights)
    groups, containers = folder / "groups.h5", folder / "containers.weights.h5"
    with h5py.File(groups, "w") as file:
        file.attrs["layer_names"] = ["dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
        group["dense/kernel:0"], group["dense/bias:0"] = layer.weights
    with h5py.File(containers, "w") as file:
        for number, array in enumerate(layer.weights):
            file[f"layers/dense/vars/{number}"] = array
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.write(containers, weights_file.ARCHIVE_MEMBER)
    for path in (groups, containers, folder / "model.keras"):
        yield Artefact(path, lambda path: repr(keras_weights.read(path, base)), foreign=True)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def tables_in(folder: Path) -> Iterator[Artefact]:
    judged = folder / "judged"
    predictions_file.write_metrics(judged, {"images": 2, **dict.fromkeys(predictions_file.RANKED, 0.5)})
    shares = np.array([[0.75, 0.25], [0.125, 0.875]])
    said = Predictions(["a.png", "b.png"], ["0" * 64, "1" * 64], ["cat", "dog"], ["cat", "dog"], ["cat", "dog"], shares)
    predictions_file.write_predictions(judged, said)
    yield Artefact(judged / PREDICTIONS, lambda path: told(predictions_file.read_predictions(path.parent)))
    yield Artefact(judged / METRICS, lambda path: history.results([path.parent], path.parent)[0])
    for name in (audit_tables.OUTLIERS, "layers.csv", "classes.csv", "reliability.csv", manifest.QUARANTINE):
        table = judged / name
        table.write_text("path,score\nphotos/a.png,0.25\nphotos/b.png,0.75\n")
        publish_digests(judged, [name])
        yield Artefact(table, lambda path: artefacts.rows(path, ["path", "score"], "audit"))
    listing = folder / "manifest.csv"
    rows = [manifest.Row(f"{name}.png", bytes([n] * 32), name, "train", 40, 30, "PNG") for n, name in enumerate("ab")]
    manifest.write(manifest.from_rows(rows), listing)
    yield Artefact(listing, lambda path: told(manifest.read(path)))
    yield Artefact(manifest.digests_of(listing), lambda path: told(manifest.read(listing)))


def told(found: object) -> str | None:
    """All that an object holds, arrays in full; None of None."""
    if found is None:
        return None
    return repr(found if isinstance(found, tuple) else vars(found)) + repr(
        [getattr(part, "arrays_", None) for part in (found if isinstance(found, tuple) else ())]
    )


def read_features(path: Path) -> Any:
    with features_file.Features(path) as features:
        views = features.gather_views(features.varied).tolist()
        return features.spec, features.views, features.gather(features.digests).tolist(), views


def campaign(artefact: Artefact, flips: int) -> Counter[str]:
    """Flip bits, drawn by the file's name, one at a time; count what became of them."""
    sound = artefact.path.read_bytes()
    expected = repr(artefact.read(artefact.path))
    outcomes: Counter[str] = Counter()
    drawn = random.Random(artefact.path.name)
    for bit in itertools.islice(iter(lambda: drawn.randrange(8 * len(sound)), None), flips):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        artefact.path.write_bytes(damaged)
        outcomes[outcome(artefact, expected)] += 1
    artefact.path.write_bytes(sound)
    return outcomes


def outcome(artefact: Artefact, expected: str) -> str:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", EditedWarning)
        try:
            found = artefact.read(artefact.path)
        except HeadstartError:
            return "refused"
        except Exception as error:  # noqa: BLE001, whatever it is, it would end in a traceback
            return f"traceback: {type(error).__name__}"
    if any(issubclass(one.category, EditedWarning) for one in warned):
        return "told"
    if artefact.made_anew and found is None:
        return "made anew"
    if artefact.foreign:
        return "named by its sha256"
    harmless = repr(found) == expected and (artefact.path.suffix in (".h5", ".npz"))  # there are bytes without meaning
    return "without effect" if harmless else "silent"


def test_a_flipped_bit_is_found_or_has_no_effect(tmp_path: Path) -> None:
    for artefact in artefacts_in(tmp_path):
        found = campaign(artefact, FLIPS)
        bad = [what for what in found if what.startswith(("silent", "traceback"))]
        assert not bad, (artefact.path.name, found)


def test_an_undisturbed_artefact_is_read_without_a_word(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", EditedWarning)
        for artefact in artefacts_in(tmp_path):
            assert artefact.read(artefact.path) is not None


def test_a_manifest_edited_by_hand_is_read_and_said_to_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    row = manifest.Row("a.png", bytes(32), "cat", "train", 40, 30, "PNG")
    manifest.write(manifest.from_rows([row]), path)
    path.write_text(path.read_text().replace("cat", "dog"))
    with pytest.warns(EditedWarning, match=r"manifest\.csv: it was edited since `hs\.prepare` wrote it"):
        assert manifest.read(path).labels == ["dog"]
    (tmp_path / "manifest.json").unlink()
    with pytest.warns(EditedWarning, match="nobody knows whether it was edited"):
        assert manifest.read(path).labels == ["dog"]


def test_what_an_earlier_version_made_is_refused_with_the_step_that_makes_it_again(tmp_path: Path) -> None:
    text = json.loads(test_tampering.head_text(tmp_path))
    del text["sha256"]
    (tmp_path / "head.json").write_text(json.dumps(text))
    with pytest.raises(HeadstartError, match=r"received none, as an earlier version left it; run `hs\.train` again"):
        load_head(tmp_path)


if __name__ == "__main__":
    here = Path(tempfile.mkdtemp())
    for one in artefacts_in(here):
        sys.stdout.write(f"{one.path.name[:24]:24} {dict(campaign(one, int(sys.argv[1])))}\n")
    shutil.rmtree(here)
