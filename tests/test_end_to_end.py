"""The promises of the whole, kept by the real thing: DVC, the real base, real files; in a folder with a space."""

import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from pipeline.backbones import table
from pipeline.backbones.weights import find_weights, load
from pipeline.heads import store
from pipeline.photos import decode
from stages.__main__ import main
from tests import ROOT
from tests.fakes import write_classes, write_photo
from tests.forks import PYTHON, forking
from tests.pages import blocks, clone, of_the_pipeline, run_shell
from tests.project import Project

SIZE = 64
PHOTOS = "my photos"
HEADS = ("logistic", "dense")
# The base sees small photos, what is drawn at random is drawn less often, and the export is the cheapest there is.
SMALLER = {
    "size: 224": f"size: {SIZE}",
    "sample: 2000": "sample: 30",
    "epochs: 60": "epochs: 3",
    "resamples: 2000": "resamples: 100",
    "format: onnx": "format: openvino",
    "sample: 40": "sample: 4",
    "prepare:": "prepare:\n  stratify: true",
}


# --- under DVC, by the commands of the pages


@dataclass(frozen=True)
class Run:
    """A clone whose reader has followed the README, all committed; what each block of shell printed."""

    project: Project
    printed: list[str]


def ran(printed: str) -> set[str]:
    """The stages that DVC says it ran."""
    return set(re.findall(r"^Running stage '(.+)':$", printed, re.MULTILINE))


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A clone with params.yaml changed as the README says, and made smaller, after each of its blocks with `make`.

    Its environment has commands that are forks of one process, until a block activates the real one.
    """
    project = clone(tmp_path_factory.mktemp("end to end"), 30)
    environment = project.root / ".venv"
    environment.unlink()
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/activate").symlink_to(Path(sys.prefix) / "bin/activate")
    (environment / "bin/python").write_text(PYTHON)
    (environment / "bin/python").chmod(0o755)
    project.environment["PATH"] = os.pathsep.join([str(environment / "bin"), project.environment["PATH"]])
    with forking(environment / "bin", project.environment):
        yield run_as_the_readme_says(project)


def run_as_the_readme_says(project: Project) -> Run:
    path, text = project.root / "params.yaml", (project.root / "params.yaml").read_text()
    for default, smaller in SMALLER.items():
        assert default in text
        text = text.replace(default, smaller)
    (line,) = blocks("yaml")
    key, _, photos = line.strip().partition(": ")
    changed, count = re.subn(rf"^{key}: .*\n", f"{key}: {PHOTOS}\n", text, flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)
    (project.root / photos).rename(project.root / PHOTOS)
    project.dvc("add", "--quiet", PHOTOS)
    printed = [run_shell(project, block) for block in blocks("sh") if re.search(r"^make\b", block, re.MULTILINE)]
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "first")
    return Run(project, printed)


@pytest.fixture
def project(first_run: Run) -> Project:
    """The project as the first run left it."""
    return reset(first_run)


def reset(run: Run) -> Project:
    run.project.git("reset", "--quiet", "--hard")
    run.project.dvc("checkout", "--quiet", "--force")
    return run.project


def test_one_run_prepares_trains_and_judges_every_head(first_run: Run) -> None:
    project = first_run.project
    heads = {f"{stage}@{name}" for stage in ("train", "evaluate") for name in HEADS}
    ends = {"finetune", "evaluate-model", "export", "compare", "report"}
    assert {"prepare", "probe", "extract"} | ends | heads <= ran(first_run.printed[0])
    assert any(re.search(r"^logistic +[01]\.\d+ \[", text, re.MULTILINE) for text in first_run.printed)
    assert (project.root / "labels.csv").read_text().startswith("path,label,p_cat,p_dog,error\n")
    shown = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    for name in HEADS:
        numbers = shown[f"data/evaluation/{name}/metrics.json"]["data"]
        assert numbers["accuracy_low"] <= numbers["accuracy"] <= numbers["accuracy_high"]
        for picture in ("confusion_matrix", "classes"):
            assert (project.root / f"data/evaluation/{name}/plots/{picture}.png").stat().st_size > 1000
    assert (project.report()["computed"], project.report()["reused"]) == (30, 30)  # of the probe's sample
    compared = json.loads((project.root / "data/comparison/comparison.json").read_text())
    assert {place["name"] for place in compared["ranking"]} == set(HEADS)
    assert compared["joined"] == {"model": "logistic"}
    assert all(place["seconds"] > 0 for place in compared["ranking"] if place["name"] in HEADS)


def test_what_runs_leave_behind_is_ignored_by_git(project: Project) -> None:
    assert project.git("status", "--porcelain") == ""


def test_a_run_leaves_a_fresh_clone_as_it_was(first_run: Run) -> None:
    """DVC writes its outputs into these files as it first sees them; so they are in Git with all of them."""
    root = first_run.project.root
    for path in sorted((root / "data").rglob(".gitignore")):
        kept = ROOT / path.relative_to(root)
        assert kept.is_file(), kept
        assert sorted(path.read_text().split()) == sorted(kept.read_text().split()), kept


def test_a_second_run_does_nothing(first_run: Run) -> None:
    assert "Data and pipelines are up to date." in first_run.printed[1]
    assert ran(first_run.printed[1]) == set()


def test_bytecode_beside_the_code_is_no_change_of_the_code(project: Project) -> None:
    written = project.root / "pipeline/backbones/__pycache__/table.cpython-399.pyc"
    written.parent.mkdir(exist_ok=True)
    written.write_bytes(b"bytecode")
    assert project.ran() == set()


@dataclass(frozen=True)
class Experiment:
    """What the pages' block of an experiment printed and left."""

    printed: str
    metrics: dict[str, Any]
    shown: list[dict[str, str]]
    plots: str


@pytest.fixture(scope="module")
def experiment(first_run: Run) -> Experiment:
    """After each block of the pages that needs what the pipeline has written: they set train.logistic.C to 0.1."""
    project = reset(first_run)
    printed = [
        run_shell(project, block)
        for block in blocks("sh")
        if of_the_pipeline(block) and not re.search(r"^make\b", block, re.MULTILINE)
    ]
    assert len(printed) + len(first_run.printed) >= 5
    return Experiment(
        "".join(printed),
        json.loads(project.dvc("metrics", "diff", "--json")),
        list(csv.DictReader(project.dvc("exp", "show", "--only-changed", "--csv").splitlines())),
        (project.root / "dvc_plots/index.html").read_text(),
    )


def test_every_shell_command_of_the_pipeline_runs(experiment: Experiment) -> None:
    assert "Ran experiment" in experiment.printed


def test_a_parameter_of_one_head_concerns_that_head_only(experiment: Experiment) -> None:
    of_the_head = {"train@logistic", "evaluate@logistic"}
    assert ran(experiment.printed) == of_the_head | {"finetune", "evaluate-model", "export", "compare", "report"}
    assert set(experiment.metrics) == {f"data/evaluation/{name}/metrics.json" for name in ("logistic", "model")}
    assert {"old", "new", "diff"} <= experiment.metrics["data/evaluation/logistic/metrics.json"]["log_loss"].keys()


def test_an_experiment_sets_a_parameter_and_is_kept_in_a_table_that_can_be_read(experiment: Experiment) -> None:
    assert "0.1" in [row["train.logistic.C"] for row in experiment.shown if row["Experiment"]]
    assert len(experiment.shown[0]) < 40


def test_plots_are_drawn_offline(experiment: Experiment) -> None:
    assert "confusion_matrix.png" in experiment.plots
    assert "learning_curves.csv" in experiment.plots


# For each params.yaml that it is given, what DVC would run; it takes what follows a stage that runs to run, too.
PLAN = """
import json, sys
from pathlib import Path
from dvc.repo import Repo
for params in json.loads(sys.argv[1]):
    Path("params.yaml").write_text(json.dumps(params))
    print(json.dumps([stage.addressing for stage in Repo().reproduce(dry=True, force_downstream=True)]))
"""


def test_a_parameter_re_runs_the_stages_that_the_docs_name(project: Project) -> None:
    table = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", (ROOT / "docs/experiments.md").read_text(), re.M)
    assert len(table) > 5
    every = set(project.dvc("stage", "list", "--name-only", "dvc.yaml").split())
    changes = []
    for key, _ in table:
        changes.append(yaml.safe_load((project.root / "params.yaml").read_text()))
        section, name = key.rsplit(".", 1)
        target = changes[-1]
        for part in section.split("."):
            target = target[part]
        target[name] = f"{target[name]}1"
    told = project.call(sys.executable, "-c", PLAN, json.dumps(changes))
    planned = [set(json.loads(line)) for line in told.splitlines() if line.startswith("[")]
    for (key, stages), found in zip(table, planned, strict=True):
        named = set(re.findall(r"`([\w@-]+)`", stages))
        assert named <= every
        assert found == (every - named if stages.startswith("all but ") else named), key


def test_a_corrected_label_costs_no_forward_pass_and_leaves_the_features_alone(project: Project) -> None:
    features = project.root / "data/features/features.h5"
    before = hashlib.sha256(features.read_bytes()).hexdigest()
    (project.root / PHOTOS / "dog/000.png").rename(project.root / PHOTOS / "cat/corrected.png")
    assert {"prepare", "extract"} <= project.ran("extract")
    assert (project.report()["computed"], project.report()["reused"]) == (0, 60)
    assert hashlib.sha256(features.read_bytes()).hexdigest() == before


def test_a_recipe_runs_every_stage_and_dvc_brings_the_results_before_it_back(project: Project) -> None:
    before = (project.root / "params.yaml").read_bytes()
    results = {name: (project.root / "data" / name).read_bytes() for name in ("report.html", "features/features.h5")}
    # The packaged base, as Keras would build another one at every stage, and take most of the time.
    changes = ("base.backbone=efficientnet_lite0", "base.size=32", "train.dense.epochs=3")
    words = [word for change in changes for word in ("-S", change)]
    project.call("headstart", "recipe", "mobilenet-224", *words)
    assert (project.root / "params.yaml").read_bytes() == before
    judged, top = {}, table.resolve_cut(table.find("efficientnet_lite0"), "top")
    for name in (*HEADS, "model"):
        record = "model" if name == "model" else "head"
        folder = project.root / "data" / (name if name == "model" else f"heads/{name}")
        spec = json.loads((folder / f"{record}.json").read_text())["spec"]
        assert (spec["size"], spec["cut"], spec["pooling"]) == (32, top, "avg")
        judged[name] = json.loads((project.root / f"data/evaluation/{name}/metrics.json").read_text())["accuracy"]
    with (project.root / "data/comparison/ranking.csv").open(newline="") as file:
        ranked = {row["name"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    assert ranked == {name: judged[name] for name in HEADS}
    compared = json.loads((project.root / "data/comparison/comparison.json").read_text())
    assert compared["joined"] == {"model": "dense"}  # the recipe's head, joined to its base
    assert (project.root / "data/report.html").read_bytes() != results["report.html"]
    assert project.ran() == set()
    assert {name: (project.root / "data" / name).read_bytes() for name in results} == results
    assert project.git("status", "--porcelain") == ""


def test_an_experiment_in_a_temporary_checkout_shares_the_rows(project: Project) -> None:
    told = project.dvc("exp", "run", "--temp", "--set-param", "extract.batch-size=16", "extract")
    assert "60 images: 0 computed, 60 reused" in told


# --- by the commands alone


def headstart(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> str:
    result = headstart(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


class Chain:
    """prepare, extract, train and evaluate for one base and one head."""

    def __init__(self, root: Path, cache: Path, backbone: str, weights: str, head: str) -> None:
        self.root, self.cache, self.backbone, self.weights = root, cache, backbone, weights
        self.head_dir = root / "head"
        photos = write_classes(root / "photos", {"dark": 16, "bright": 16, "grey": 16})
        manifest, features = root / "manifest.csv", root / "features.h5"
        succeeded("prepare", photos, manifest, "--stratify", "--workers", 1)
        options = ("--backbone", backbone, "--weights", weights, "--size", SIZE, "--cache", cache)
        succeeded("extract", photos, manifest, features, *options, "--dtype", "float32")
        epochs = ("--epochs", 3) if head == "dense" else ()
        succeeded("train", manifest, features, self.head_dir, "--head", head, *epochs, "--calibrate", "none")
        succeeded("evaluate", photos, manifest, features, self.head_dir, root / "out", "--resamples", 100)

    def predict(self, *arguments: object) -> Result:
        return headstart("predict", self.head_dir, *arguments, "--cache", self.cache)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of rows that chains share, as their photos are the same."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(
    scope="module", params=[("efficientnet_lite0", "imagenet", "logistic"), ("efficientnet_lite0", "imagenet", "dense")]
)
def chain(request: pytest.FixtureRequest, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("a chain"), rows, *request.param)


@cache
def keras_base(name: str, kind: str) -> Any:
    backbone = table.find(name)
    return load(backbone, size=SIZE, alpha=1.0, weights=find_weights(backbone, kind, size=SIZE, alpha=1.0, seed=0))


def by_keras(chain: Chain, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Base and head, each as Keras alone would run it: (n, SIZE, SIZE, 3) uint8 to probabilities (n, 3)."""
    import keras

    base = keras_base(chain.backbone, chain.weights)
    scaled = pixels.astype(np.float32) / 127.5 - 1  # what both of these bases were trained on
    features = keras.layers.GlobalAveragePooling2D()(base(scaled, training=False))
    with np.load(chain.head_dir / "arrays.npz", allow_pickle=False) as arrays:
        learned = dict(arrays)
    mean, scale = learned["mean_"], learned["scale_"]
    pairs = (
        [(learned["coef_"].T, learned["intercept_"])]
        if "coef_" in learned
        else [(learned[f"kernel_{i}_"], learned[f"bias_{i}_"]) for i in range(2)]
    )
    rows = ((np.asarray(features, np.float64) - mean) / scale).astype(np.float32)
    layers = [keras.Input((len(mean),))]
    layers += [keras.layers.Dense(len(bias), activation="relu") for _, bias in pairs[:-1]]
    layers += [keras.layers.Dense(len(pairs[-1][1]), activation="softmax")]
    head = keras.Sequential(layers)
    for layer, pair in zip(head.layers, pairs, strict=True):
        layer.set_weights(pair)
    return np.asarray(head(rows), np.float64)


def test_predictions_are_those_of_base_and_head_in_keras(chain: Chain) -> None:
    photos = sorted((chain.root / "photos").rglob("*.png"))[::3]
    result = chain.predict(*photos, "--batch-size", 5)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["path"] for row in rows] == list(map(str, photos))
    _, record = store.load(chain.head_dir)
    received = np.array([[float(row[f"p_{label}"]) for label in record["classes"]] for row in rows])
    pixels = np.stack([decode.fit(photo.read_bytes(), size=SIZE, geometry="squash") for photo in photos])
    np.testing.assert_allclose(received, by_keras(chain, pixels), atol=1e-4)


def test_predictions_are_those_that_were_judged(chain: Chain) -> None:
    with (chain.root / "out/predictions.csv").open(newline="") as file:
        judged = list(csv.DictReader(file))
    photos = [chain.root / "photos" / row["path"] for row in judged]
    rows = list(csv.DictReader(chain.predict(*photos).stdout.splitlines()))
    assert len(rows) == 9
    assert [row["label"] for row in rows] == [row["predicted"] for row in judged]
    for name in ("p_bright", "p_dark", "p_grey"):
        assert [float(row[name]) for row in rows] == pytest.approx([float(row[name]) for row in judged], abs=2e-3)


def test_a_broken_file_has_its_row_the_rest_go_on_and_the_status_is_1(chain: Chain, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/1.png", 1)
    (tmp_path / "in/2.png").write_bytes(b"no image")
    write_photo(tmp_path / "in/3.png", 3)
    result = chain.predict(tmp_path / "in", "--output", tmp_path / "labels.jsonl")
    assert result.exit_code == 1
    assert "1 of 3 files could not be used" in result.stderr
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["1.png", "2.png", "3.png"]
    assert [row["error"] is None for row in rows] == [True, False, True]


def test_a_head_does_not_take_features_of_another_base(chain: Chain, tmp_path: Path) -> None:
    photos, manifest, features = chain.root / "photos", chain.root / "manifest.csv", tmp_path / "features.h5"
    options = ("--backbone", "mobilenet_v2", "--weights", "none", "--weights-seed", 1, "--size", SIZE)
    succeeded("extract", photos, manifest, features, *options, "--dtype", "float32", "--cache", chain.cache)
    result = headstart("evaluate", photos, manifest, features, chain.head_dir, tmp_path / "out")
    assert result.exit_code == 1
    assert " was trained on features of another spec than those in " in result.stderr
    assert "weights." in result.stderr
