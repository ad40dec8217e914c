"""Weights from a file are found again by their sha256: in a head's folder, in the cache, or the user is asked."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from pipeline.errors import ArtefactError, HeadstartError, WeightsError
from pipeline.features import resolve
from pipeline.features.cache import kept_weights
from pipeline.features.resolve import found_again
from pipeline.heads import train
from pipeline.heads.settings import TrainSettings
from pipeline.models import classifier
from pipeline.models.settings import Runtime
from pipeline.storage import digests
from pipeline.storage.digests import of_file
from stages.cache import cache as command
from tests import fakes
from tests.models.finetuning.test_finetune import Project


class Made(NamedTuple):
    """A head that was trained on a file of weights, which is gone, and the file's sha256."""

    project: Project
    sha256: str

    def runtime(self, cache: Path, weights: str | None = None) -> Runtime:
        return Runtime(weights, "tensorflow", None, 4, cache)

    def predict(self, cache: Path) -> object:
        return classifier.load(self.project.head, self.runtime(cache)).plan

    def finetune(self, cache: Path) -> object:
        self.project.cache = cache
        return self.project.finetune(epochs=0)

    @property
    def kept(self) -> Path:
        return self.project.root / "cache/weights" / self.sha256


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("project")
    file = root / "mine.weights.h5"
    fakes.tiny_base(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    project = Project(root, weights=str(file))
    sha256 = of_file(file)
    file.rename(root / "elsewhere.h5")
    return Made(project, sha256)


@pytest.fixture
def made(original: Made) -> Made:
    """The same, as it was made."""
    root = original.project.root
    kept_weights.carry(original.project.head, None)
    shutil.rmtree(root / "cache/weights")
    kept_weights.keep(root / "cache", root / "elsewhere.h5", original.sha256)
    original.project.cache = root / "cache"
    return original


@pytest.mark.parametrize("door", [Made.predict, Made.finetune], ids=lambda door: door.__name__)
def test_a_head_finds_the_weights_it_was_trained_on_though_their_file_is_gone(
    made: Made, door: Callable[[Made, Path], object], tmp_path: Path
) -> None:
    door(made, made.project.root / "cache")
    message = rf"trained on a file with sha256 {made.sha256}, which is not on this machine: give it as `weights`"
    with pytest.raises(WeightsError, match=message):
        door(made, tmp_path / "empty")


@pytest.mark.parametrize("place", ["named", "kept", "carried"])
def test_weights_are_read_once_to_tell_what_they_are(
    made: Made, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(digests, "of_file", lambda path: read.append(path) or of_file(path))
    file = {"named": made.project.root / "elsewhere.h5", "kept": made.kept, "carried": tmp_path / "base-weights"}[place]
    if place == "carried":
        shutil.copy(made.kept, file)
    cache = made.project.cache
    again = resolve.Again(str(file) if place == "named" else None, "tensorflow", None, cache)
    found, _ = resolve.plan_again(made.project.plan.spec, tmp_path, again)
    assert (found.weights.path, read) == (file, [file])


def test_a_file_that_is_given_once_to_a_trained_head_is_remembered(made: Made, tmp_path: Path) -> None:
    given = made.runtime(tmp_path, str(made.project.root / "elsewhere.h5"))
    assert classifier.load(made.project.head, given).plan is not None
    assert made.predict(tmp_path)


def test_a_full_or_read_only_cache_keeps_nothing_and_harms_nothing(made: Made, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where the folder should be")
    given = made.runtime(tmp_path, str(made.project.root / "elsewhere.h5"))
    assert classifier.load(made.project.head, given).plan is not None


def test_kept_weights_that_are_damaged_are_set_aside_and_asked_for(made: Made) -> None:
    flip(made.kept)
    with pytest.raises(WeightsError, match=f"trained on a file with sha256 {made.sha256}"):
        made.predict(made.project.cache)
    assert [path.name for path in kept_weights.set_aside(made.project.cache)] == [f"{made.sha256}.damaged"]


def test_a_head_carries_its_weights_to_another_machine(made: Made, tmp_path: Path) -> None:
    project = made.project
    carrying = TrainSettings(C=0.01, with_weights=True, cache=project.cache)
    train.train(project.manifest, project.features, project.head, carrying)
    mailed = tmp_path / "mailed"
    shutil.copytree(project.head, mailed)
    plan = classifier.load(mailed, made.runtime(tmp_path / "empty")).plan
    assert plan and (plan.weights.path, plan.weights.sha256) == (mailed / kept_weights.CARRIED, made.sha256)
    train.train(project.manifest, project.features, project.head, TrainSettings(C=0.01))
    assert not (project.head / kept_weights.CARRIED).exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["flipped", "a pipe", "a folder", "a dangling link"])
def test_carried_weights_that_are_not_the_heads_own_are_refused(made: Made, tmp_path: Path, harm: str) -> None:
    place = tmp_path / kept_weights.CARRIED
    if harm == "flipped":
        shutil.copy(made.kept, place)
        flip(place)
    elif harm == "a pipe":
        os.mkfifo(place)
    elif harm == "a folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    described = made.project.plan.spec
    with pytest.raises(ArtefactError, match=f"{kept_weights.CARRIED}: expected"):
        found_again(described, tmp_path, made.project.cache)


def test_a_sha256_that_leaves_the_cache_is_none(made: Made, tmp_path: Path) -> None:
    hostile = {**made.project.plan.spec, "weights": {"sha256": "../../elsewhere.h5"}}
    with pytest.raises(HeadstartError, match=r"expected weights\.sha256: a sha256"):
        found_again(hostile, tmp_path, made.project.cache)


def run(made: Made, *words: str) -> str:
    return CliRunner().invoke(command, [words[0], "--cache", str(made.project.cache), *words[1:]]).output


def test_the_cache_lists_verifies_and_prunes_weights(made: Made) -> None:
    short = made.project.plan.spec["weights"]["sha256"][:8]
    assert f"  weights {short}, from a file, " in run(made, "list")
    assert f"weights/{made.sha256}: weights of what goes, " in run(made, "prune", "--all", "--dry-run")
    flip(made.kept)
    assert f"set aside as .damaged: {made.kept}" in run(made, "verify")
    assert f"weights/{made.sha256}.damaged: damaged, " in run(made, "prune")
    assert kept_weights.kept(made.project.cache) == kept_weights.set_aside(made.project.cache) == []


def test_weights_stay_while_a_spec_names_them(made: Made) -> None:
    specs = [{"weights": {"sha256": made.sha256}}, {"weights": {"seed": 0}}, None]
    assert kept_weights.orphans(made.project.cache, specs, specs[:1]) == []
    assert kept_weights.orphans(made.project.cache, specs[:1], specs[1:]) == [made.kept]
