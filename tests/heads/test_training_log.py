"""Logs of epochs: what TensorBoard and DVCLive would read, and what is refused before anything is trained."""

import csv
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.heads import training_log

ROWS = [
    {"epoch": 1.0, "loss": 0.75, "accuracy": 0.5, "val_loss": 1.25, "val_accuracy": 0.25, "learning_rate": 0.125},
    {"epoch": 2.0, "loss": 0.5, "accuracy": 0.625, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 0.0625},
]
NAMES = {"train/loss": "loss", "train/accuracy": "accuracy", "val/loss": "val_loss", "val/accuracy": "val_accuracy"}
EXPECTED = {name: {int(row["epoch"]): row[key] for row in ROWS} for name, key in NAMES.items()} | {
    "learning_rate": {1: 0.125, 2: 0.0625}
}


def of_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    """Read an event file: records of a length, a checksum of it, an event, and a checksum of that."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.tfevents.*")
    data, found = file.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        data = data[16 + length :]
    return found


def of_dvclive(folder: Path) -> dict[str, dict[int, float]]:
    found = {}
    metrics = folder / "plots" / "metrics"
    for path in metrics.rglob("*.tsv"):
        name = path.relative_to(metrics).with_suffix("").as_posix()
        with path.open(newline="") as file:
            found[name] = {int(row["step"]): float(row[path.stem]) for row in csv.DictReader(file, delimiter="\t")}
    assert json.loads((folder / "metrics.json").read_text())["val"]["loss"] == 1.0
    return found


@pytest.mark.parametrize(
    ("name", "read"), [("tensorboard", of_tensorboard), ("dvclive", of_dvclive)], ids=["tensorboard", "dvclive"]
)
def test_each_epoch_is_read_back_with_its_losses_accuracies_and_learning_rate(
    name: str, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(training_log.LOGS[name].module)
    monkeypatch.chdir(tmp_path)
    told: list[dict[str, float]] = []
    with training_log.logged([f"{name}:log/a b"], told.append) as tell:
        for row in ROWS:
            tell(row)
    assert told == ROWS
    assert read(tmp_path / "log" / "a b") == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_without_a_log_rows_are_told_as_they_were(tmp_path: Path) -> None:
    told: list[dict[str, float]] = []
    with training_log.logged([], told.append) as tell:
        assert tell == told.append


@pytest.mark.parametrize("wanted", ["wandb:x", "tensorboard", "tensorboard:", ""])
def test_what_is_no_log_is_refused_at_once(wanted: str) -> None:
    with pytest.raises(InputError, match="`log`: expected tensorboard:DIR, dvclive or dvclive:DIR, received"):
        training_log.logged([wanted], print).__enter__()


@pytest.mark.parametrize("name", training_log.LOGS)
def test_a_log_whose_package_is_missing_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_log.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf"to be installed, received none: pip install 'headstart\[{name}\]'"):
        training_log.logged([f"{name}:x"], print).__enter__()


def test_nothing_is_written_before_the_first_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with training_log.logged([f"tensorboard:{tmp_path / 'log'}"], print):
        pass
    assert not any(tmp_path.iterdir())
