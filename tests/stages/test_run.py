"""The command `headstart run`: which steps it runs, with what, and which it need not run again."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.errors import WeightsError
from pipeline.storage import locks
from stages import run as running
from stages import run_record

ALL = ["prepare", "probe", "extract", "audit", "train", "evaluate", "report"]
BEST = [*ALL[:-1], "finetune", "evaluate", "compare", "report"]


class Steps:
    """Stands in for the commands: each writes what the real one would, made of all that it reads."""

    def __init__(self, root: Path) -> None:
        self.out, self.images = root / "out", root / "photos"
        self.called: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.stop_at: str | None = None
        self.better: str | None = None

    def call(self, ctx: click.Context, name: str, words: Any) -> None:
        if name == self.stop_at:
            self.stop_at = None
            raise KeyboardInterrupt
        self.called.append(name)
        self.words[name] = list(map(str, words))
        self._write(name, [Path(str(word)) for word in words])

    def _write(self, name: str, words: list[Path]) -> None:
        if name == "prepare":
            pixels = sorted(path.read_bytes() for path in self.images.rglob("*.png"))
            self._put(words[1], repr(pixels))
            self._put(words[1].with_suffix(".json"), "")
        elif name == "probe":
            self._put(words[2], "a cut")
            rows = f"mobilenet_v2,worse,0.9\n{self.better},better,0.99\n" if self.better else ""
            self._put(words[2].with_name("backbones.csv"), f"backbone,shown,accuracy\n{rows}")
        elif name == "extract":
            self._put(words[2], f"features of {words[1].read_text()}")
            self._put(words[-1], "rows a second, which differ")
        elif name == "compare":
            self._put(words[2] / "result", name)
        elif name == "report":
            self._put(self.out / "report.html", "a page")
        else:
            place = {"audit": 3, "train": 2, "finetune": 4, "evaluate": 4}[name]
            self._put(words[place] / "result", name)

    def _put(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *words: str) -> Any:
        self.called, self.words = [], {}
        return CliRunner().invoke(running.run, [str(self.images), "--output", str(self.out), *words])


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    steps = Steps(tmp_path)
    (steps.images / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(steps.images / "cat" / "1.png")
    monkeypatch.setattr(running, "_call", steps.call)
    monkeypatch.setattr(running, "_show", lambda ctx, steps: None)
    monkeypatch.setattr(running, "BASES", ())
    yield steps


@pytest.mark.parametrize(("quality", "expected"), [("fast", ALL), ("good", ALL), ("best", BEST)])
def test_all_steps_run_in_order_once_and_the_second_time_none(steps: Steps, quality: str, expected: list[str]) -> None:
    first = steps.run("--quality", quality)
    assert (first.exit_code, steps.called) == (0, expected), first.output
    again = steps.run("--quality", quality)
    assert steps.called == []
    assert again.output.count(": nothing changed") == len(expected)


def test_a_better_quality_runs_only_the_steps_that_it_changes(steps: Steps) -> None:
    steps.run()
    assert "--search" not in steps.words["train"] and "--views" not in steps.words["extract"]
    steps.run("--quality", "good")
    assert "--search" in steps.words["train"] and "--views" in steps.words["extract"]
    assert steps.called == ["extract", "train"]  # what these write here is as before, so that nothing else follows


def test_what_a_better_run_left_is_not_shown_by_a_faster_one(steps: Steps) -> None:
    steps.run("--quality", "best")
    assert [word for word in steps.words["report"] if "evaluation" in word] == [
        str(steps.out / "evaluation" / name) for name in ("logistic", "finetuned")
    ]
    steps.run()
    assert [word for word in steps.words["report"] if "evaluation" in word] == [
        str(steps.out / "evaluation" / "logistic")
    ]


def test_a_run_that_is_stopped_goes_on_at_the_step_that_was_not_finished(steps: Steps) -> None:
    steps.stop_at = "train"
    stopped = steps.run()
    assert stopped.exit_code == 130
    assert "Finished steps and computed features are kept" in stopped.output
    assert steps.called == ALL[:4]
    assert steps.run().exit_code == 0
    assert steps.called == ALL[4:]


def test_what_changed_runs_again_and_what_follows_from_it(steps: Steps) -> None:
    steps.run()
    page = steps.out / "report.html"
    page.write_text("edited")
    steps.run()
    assert steps.called == ["report"]
    page.unlink()
    steps.run()
    assert steps.called == ["report"]
    Image.new("RGB", (5, 5)).save(steps.images / "cat" / "2.png")
    steps.run()
    assert steps.called == ALL


def test_photos_that_were_only_touched_are_looked_at_and_nothing_follows(steps: Steps) -> None:
    steps.run()
    os.utime(steps.images / "cat" / "1.png", (1, 1))
    steps.run()
    assert steps.called == ["prepare"]


def test_a_new_version_runs_everything(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.run()
    monkeypatch.setattr(run_record.importlib.metadata, "version", lambda name: "999")
    steps.run()
    assert steps.called == ALL


def test_a_damaged_record_costs_the_skipping_and_nothing_else(steps: Steps) -> None:
    steps.run()
    record = steps.out / "run.json"
    record.write_text(record.read_text().replace("a", "b", 1))
    result = steps.run()
    assert (result.exit_code, steps.called) == (0, ALL)
    assert "run.json" in result.output and "all steps are run" in result.output


def test_where_the_labels_are_is_for_prepare(steps: Steps) -> None:
    steps.run("--label-pattern", "^([a-z]+)")
    assert steps.words["prepare"][-2:] == ["--label-pattern", "^([a-z]+)"]
    table = steps.out.parent / "labels.csv"
    table.write_text("path,label\n")
    steps.run("--labels", str(table))
    assert steps.words["prepare"][-2:] == ["--labels", str(table)]
    table.write_text("path,label\ncat/1.png,cat\n")
    steps.run("--labels", str(table))
    assert steps.called[0] == "prepare"


def test_a_base_that_is_shown_to_be_better_takes_the_place_of_the_default(steps: Steps) -> None:
    steps.better = "convnext_tiny"
    result = steps.run("--quality", "best")
    assert steps.called == ["prepare", "probe", "probe", *BEST[2:]]
    assert steps.words["extract"][3:5] == ["--backbone", "convnext_tiny"]
    assert str(steps.out / "probe-convnext_tiny" / "cut.json") in steps.words["extract"]
    assert "convnext_tiny is shown to be better" in result.output


def test_a_base_whose_weights_are_not_to_be_had_is_left_out_by_name(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.backbones import weights

    def found(base: Any, *_: Any, **__: Any) -> None:
        if base.name == "xception":
            raise WeightsError("no such file")

    monkeypatch.setattr(running, "BASES", ("xception", "vgg16"))
    monkeypatch.setattr(weights, "find_weights", found)
    result = steps.run("--quality", "best")
    assert steps.words["probe"][3:] == ["--compare", "vgg16"]
    assert "xception is not compared: no such file" in result.output


def test_two_at_once_do_not_write_into_one_folder(steps: Steps) -> None:
    with locks.alone(steps.out / "lock", str):
        result = steps.run()
    assert (result.exit_code, steps.called) == (1, [])
    assert f"{steps.out}: process {os.getpid()} on " in result.output
    assert steps.run().exit_code == 0
    assert locks.living(steps.out / "lock") == []


@pytest.mark.parametrize("place", ["photos/new", "photos"])
def test_an_output_among_the_photos_is_refused(steps: Steps, place: str) -> None:
    result = CliRunner().invoke(running.run, ["--output", str(steps.out.parent / place), str(steps.images)])
    assert (result.exit_code, steps.called) == (2, [])
    assert "--output: expected a folder outside the photos in" in result.output


def test_photos_become_a_classifier_with_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_here: None, undrawn: None
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(level - 40, level + 40, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no image")
    result = CliRunner().invoke(running.run, ["photos"])
    assert result.exit_code == 0, result.output
    prepared, audited, *_, page, predict = result.stdout.splitlines()
    assert "1 quarantined" in prepared and audited.startswith("40 images: ")
    assert page == "All on one page: headstart-out/report.html" and Path("headstart-out/report.html").is_file()
    assert predict == "To label photos: headstart predict headstart-out/heads/logistic PHOTOS"
    features = (Path("headstart-out") / "features.h5").read_bytes()
    shutil.rmtree("headstart-out/audit")
    again = CliRunner().invoke(running.run, ["photos"])
    assert again.output.count(": nothing changed") == len(ALL) - 1  # the audit comes back as it was
    assert (Path("headstart-out") / "features.h5").read_bytes() == features
