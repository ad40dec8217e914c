"""``predict imagenet``: ImageNet's classes by the packaged base, before anything was trained."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from pipeline.backbones import efficientnet_lite
from pipeline.features import resolve
from pipeline.inference.imagenet import ImageNetClassifier, is_meant
from pipeline.inference.load import load
from pipeline.inference.prediction import Prediction
from pipeline.inference.settings import PredictSettings
from pipeline.models.settings import Runtime
from stages.predict import _table
from stages.predict import predict as command
from tests.fakes import write_photo

TENCH, TABBY, PALACE, DAISY = 0, 281, 698, 985


class Seeing:
    """A base that sees, in each photo in turn, what the classifier takes for these classes."""

    row_shape = (1280,)

    def __init__(self, codes: Iterable[int]) -> None:
        path = efficientnet_lite.checkpoint_path()
        assert path is not None
        self.kernel, _ = efficientnet_lite.read_checkpoint(path)["predictions"]
        self.codes = iter(codes)
        self.seen: list[NDArray[np.uint8]] = []

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            self.seen += list(batch)
            yield np.stack([10 * self.kernel[:, next(self.codes)] for _ in batch])


def test_photos_get_the_name_of_their_class_and_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Seeing([TENCH, TABBY, PALACE, DAISY])
    monkeypatch.setattr(resolve, "open_engine", lambda *_, **__: engine)
    for number in range(4):
        write_photo(tmp_path / f"photos/{number}.png", number)
    arguments = ["imagenet", str(tmp_path / "photos"), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(command, [*arguments, "--output", str(tmp_path / "labels.csv")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["tench", "tabby", "palace", "daisy"]
    assert len([name for name in rows[0] if name.startswith("p_")]) == 1000
    assert {square.shape for square in engine.seen} == {(224, 224, 3)}


def test_the_base_is_the_packaged_one_as_published() -> None:
    opened: Any = load(Path("imagenet"), Runtime(None, "auto", None, 4, None))
    assert isinstance(opened, ImageNetClassifier)
    assert (opened.plan.weights.sha256, opened.geometry, opened.size) == (efficientnet_lite.SHA256, "crop", 224)
    assert len(set(opened.classes)) == 1000


def test_a_folder_of_that_name_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_meant(Path("imagenet"))
    (tmp_path / "imagenet").mkdir()
    assert not is_meant(Path("imagenet"))


def test_a_terminal_shows_the_most_probable_classes_the_first_with_the_photo() -> None:
    target = io.StringIO()
    found = Prediction(Path("a.png"), "dog", {"cat": 0.3, "dog": 0.6, "emu": 0.02, "owl": 0.08}, None)
    _table([found], list(found.probabilities), PredictSettings(), target, top=3)
    assert target.getvalue() == "dog   0.600  a.png\ncat   0.300\nowl   0.080\n"
