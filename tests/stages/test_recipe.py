"""The classics: what they say is accepted, what they build was published, and each goes from photos to a model."""

import importlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, cast

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.backbones import builder, cutting, table, tails
from pipeline.backbones.builder import without_weights
from pipeline.errors import InputError
from pipeline.evaluation.compare import CompareResult
from pipeline.evaluation.verdict import NO_DIFFERENCE, Pair, Place
from pipeline.heads import resolve, standardise
from pipeline.heads.dense import DenseHead
from pipeline.heads.settings import TrainSettings
from pipeline.models import assemble
from pipeline.setting import build
from pipeline.storage.json_files import publish_digests
from stages import recipe
from stages.__main__ import main
from stages.options.param_types import names, widths
from tests import ROOT
from tests.fakes import write_classes

# Each recipe beside the step of the tutorial that it comes from: its base, side in px and pooling; its head: widths,
# dropout, optimizer, learning rate, epochs; what it trains on: the cut, optimizer, learning rate, epochs; and how the
# images change. docs/commands/recipe.md has the table in words, and says where a recipe differs from its tutorial.
VGG, POOLED = ("vgg16", 150, "flatten"), ("none", 0, "adam", 0.001, 50)
NARROW, WIDE = ("256", 0, "adam", 0.001, 10), ("4096,1024", 0, "adam", 0.001, 10)
TURNED = {"flip": "horizontal", "rotation": 0.1, "zoom": 0.1}
ADVISED = ("block4_pool", "rmsprop", 0.00001, 30)
TUTORIALS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...], dict[str, Any]]] = {
    "freeze-by-name": (("vgg16", 224, "avg"), NARROW, ("image", "adam", 0.00001, 10), {}),
    "mobilenet-224": (("mobilenet", 224, "avg"), POOLED, (), {}),
    "mobilenetv2-160": (
        ("mobilenet_v2", 160, "avg"),
        ("none", 0.2, "adam", 0.0001, 10),
        ("block_10_project_BN", "rmsprop", 0.00001, 10),
        {"flip": "horizontal", "rotation": 0.2},
    ),
    "resnet50-224": (("resnet50", 224, "avg"), POOLED, (), {}),
    "vgg16-block5": (VGG, NARROW, ("block4_pool", "adam", 0.001, 10), {}),
    "vgg16-block5-advised": (VGG, NARROW, ADVISED, {}),
    "vgg16-block5-live": (VGG, NARROW, ADVISED, TURNED),
    "vgg16-flatten": (VGG, NARROW, (), {}),
    "vgg16-flatten-live": (VGG, NARROW, ("top", "adam", 0.001, 10), TURNED),
    "vgg16-flatten-views": (VGG, NARROW, (), TURNED),
    "vgg16-wide": (("vgg16", 224, "flatten"), WIDE, ("image", "adam", 0.00001, 3), {}),
    "vgg16-wide-regularised": (
        ("vgg16", 224, "flatten"),
        ("4096,1024", 0.5, "adam", 0.0001, 50),
        ("image", "adam", 0.00001, 3),
        {},
    ),
    "xception-150": (
        ("xception", 150, "avg"),
        ("none", 0, "adam", 0.001, 20),
        ("image", "adam", 0.00001, 10),
        {},
    ),
}
NAMES = tuple(TUTORIALS)
STAGE_OF = {"base": ("probe", "extract"), "train.dense": ("train",)}
SOFTMAX = ("mobilenet-224", "resnet50-224")


def chosen(name: str) -> recipe.Recipe:
    return recipe.find(ROOT, name)


def classes(name: str) -> int:
    return 3 if name in SOFTMAX else 2


def words(options: dict[str, Any]) -> list[str]:
    """Options as DVC splices them into a command."""
    return [
        word for key, value in options.items() for word in ([f"--{key}"] if value is True else [f"--{key}", str(value)])
    ]


# --- what they say


def test_the_classics_are_there() -> None:
    assert tuple(recipe.names(ROOT)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_one_its_stage_accepts(name: str) -> None:
    for section, options in chosen(name).sections.items():
        for stage in STAGE_OF.get(section, (section,)):
            command: click.Command = getattr(importlib.import_module(f"stages.{stage}"), stage)
            paths = [parameter.name or "" for parameter in command.params if isinstance(parameter, click.Argument)]
            command.make_context(stage, [*paths, *words(options)])


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_sections_is_the_recipe_s_own(name: str) -> None:
    """Nothing is left to options that change their defaults: those that every classic has to decide are decided."""
    sections = chosen(name).sections
    assert list(sections) == ["base", "probe", "extract", "train.dense", "finetune"]
    assert {"hidden", "dropout", "learning-rate", "epochs", "patience", "standardize"} <= sections["train.dense"].keys()
    assert sections["finetune"]["head"] == "dense"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_does_what_its_tutorial_does(name: str) -> None:
    sections = chosen(name).sections
    base, head, tuning, changes = (sections[section] for section in ("base", "train.dense", "finetune", "extract"))
    network = (base["backbone"], base["size"], sections["probe"]["pooling"])
    small = tuple(head[key] for key in ("dropout", "optimizer", "learning-rate", "epochs"))
    trained = tuple(tuning[key] for key in ("cut", "optimizer", "learning-rate", "epochs")) if tuning["epochs"] else ()
    seen = tuning if tuning.get("live-augment") else changes
    changed = {key: seen[key] for key in ("flip", "rotation", "zoom") if key in seen}
    assert (network, (str(head["hidden"]), *small), trained, changed) == TUTORIALS[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_where_it_comes_from_what_to_expect_where_it_differs_and_how_long_it_takes(name: str) -> None:
    found = chosen(name)
    lines = found.about.splitlines()
    passes = found.sections["train.dense"]["epochs"] * (views := found.sections["extract"].get("views", 1))
    assert views == 1 or f"{passes} passes over the photos" in found.about
    assert lines[0].startswith("From: ")
    assert {line.partition(": ")[0] for line in lines} >= {"From", "Expect", "Differs", "Takes"}
    page = (ROOT / "docs" / "commands" / "recipe.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page


# --- what they build


# Base, head and what fine-tuning trains, in numbers; layers of the base, its input included. Published, in summaries of
# these very models: 14,714,688 and 2,097,665 for VGG16; 154 layers and 1,862,721 in TensorFlow's tutorial on transfer
# learning; 20,809,001 in Keras' guide to it. The others follow from the layers' shapes.
COUNTS = {
    "vgg16-flatten": (14_714_688, 2_097_665, 0, 19),
    "vgg16-flatten-views": (14_714_688, 2_097_665, 0, 19),
    "vgg16-flatten-live": (14_714_688, 2_097_665, 2_097_665, 19),
    "vgg16-block5": (14_714_688, 2_097_665, 7_079_424 + 2_097_665, 19),
    "vgg16-block5-advised": (14_714_688, 2_097_665, 7_079_424 + 2_097_665, 19),
    "vgg16-block5-live": (14_714_688, 2_097_665, 7_079_424 + 2_097_665, 19),
    "xception-150": (20_861_480, 2_049, 20_809_001, 132),
    "mobilenetv2-160": (2_257_984, 1_281, 1_862_721, 154),
    "mobilenet-224": (3_228_864, 3_075, 0, 86),
    "resnet50-224": (23_587_712, 6_147, 0, 175),
    "vgg16-wide": (14_714_688, 106_960_897, 14_714_688 + 106_960_897, 19),
    "vgg16-wide-regularised": (14_714_688, 106_960_897, 14_714_688 + 106_960_897, 19),
    "freeze-by-name": (14_714_688, 131_585, 14_714_688 - 36_928 - 2_359_808 + 131_585, 19),
}


@pytest.mark.parametrize("name", NAMES)
def test_at_its_true_size_a_recipe_has_the_published_parameters_and_layers(name: str) -> None:
    sections = chosen(name).sections
    base, tuning = sections["base"], sections["finetune"]
    backbone = table.find(base["backbone"])
    network = built(base["backbone"], base["size"])
    trunk = cutting.trunk(backbone, network, cut="top", pooling=sections["probe"]["pooling"])
    head = standardise.count_parameters(unfitted(sections["train.dense"]).layout(trunk.output.shape[1], classes(name)))
    trained = 0
    if tuning["epochs"]:
        tail = tails.tail(backbone, assemble.flat(trunk), cut=table.resolve_cut(backbone, tuning["cut"]))
        frozen = tuning.get("freeze", "").split(",")
        trained = head + sum(
            math.prod(variable.shape)
            for layer in assemble.weighted_layers(tail)
            if layer.name not in frozen
            for variable in layer.weights
            if "moving" not in variable.name
        )
    assert (network.count_params(), head, trained, len(network.layers)) == COUNTS[name]


@cache
def built(name: str, size: int) -> Any:
    """A base without weights; recipes of the same share it."""
    with without_weights():
        return builder.build(table.find(name), size=size, alpha=1.0, seed=0)


def unfitted(options: dict[str, Any]) -> DenseHead:
    """The head that `headstart train` makes of a recipe's options."""
    train = importlib.import_module("stages.train").train
    given = train.make_context("train", ["m", "f", "h", "--head", "dense", *words(options)]).params
    return cast(DenseHead, resolve.unfitted(build(TrainSettings, given)))


def test_lists_in_recipes_are_those_of_the_options() -> None:
    wide, named = chosen("vgg16-wide").sections, chosen("freeze-by-name").sections
    context, parameter = click.Context(main), click.Option(["--any"])
    assert widths(context, parameter, wide["train.dense"]["hidden"]) == (4096, 1024)
    assert names(context, parameter, named["finetune"]["freeze"]) == ("block1_conv2", "block4_conv3")


# --- from photos to a model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of few photos, with a manifest beside each, by the number of classes."""
    made = {}
    for count, labels in ((2, ("cat", "dog")), (3, ("cat", "dog", "fox"))):
        root = made[count] = tmp_path_factory.mktemp(f"classes{count}")
        write_classes(root / "photos", dict.fromkeys(labels, 30 // count))
        ran("prepare", root / "photos", root / "manifest.csv", "--stratify", "--workers", 1)
    return made


def ran(*words: object) -> str:
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


# The head of vgg16-wide has 107 million numbers. The others go the way of one that is tried: resnet50-224 that of
# mobilenet-224, vgg16-flatten that of its views, xception-150 that of freeze-by-name, which trains a whole base, too;
# block 5 is trained on live photos, and from kept activations as mobilenetv2-160 trains.
UNTRIED = (
    *("vgg16-wide", "vgg16-wide-regularised", "resnet50-224", "vgg16-flatten", "xception-150"),
    *("vgg16-block5", "vgg16-block5-advised"),
)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNTRIED])
def test_a_recipe_runs_from_photos_to_a_judged_model(
    name: str, photos: dict[int, Path], tmp_path: Path, undrawn: None
) -> None:
    root = photos[classes(name)]
    sections = chosen(name).sections
    base, tuning = sections["base"], sections["finetune"]
    base["weights"] = "none"
    base["size"] = 32
    if "views" in sections["extract"]:
        sections["extract"]["views"] = 2
    sections["train.dense"]["epochs"] = 1
    tuning["epochs"] = min(1, tuning["epochs"])
    images, features, head, model = root / "photos", tmp_path / "f.h5", tmp_path / "head", tmp_path / "model"
    read, cache = (images, root / "manifest.csv"), ("--cache", root / "cache", "--engine", "tensorflow")
    ran("probe", *read, tmp_path / "cut.json", *words(base), *words(sections["probe"]), *cache)
    cut = ("--cut-file", tmp_path / "cut.json")
    ran("extract", *read, features, *words(base), *words(sections["extract"]), *cut, "--dtype", "float32", *cache)
    ran("train", root / "manifest.csv", features, head, "--head", "dense", *words(sections["train.dense"]))
    ran("finetune", *read, features, head, model, *words(tuning), *cache)
    ran("evaluate", *read, features, model, tmp_path / "judged", "--resamples", 100, *cache)
    made = json.loads((model / "model.json").read_text())
    trained = {layer["name"] for layer in made["layers"] if layer["trained"]}
    assert bool(trained) == bool(tuning["epochs"])
    if sections["probe"]["pooling"] == "avg":  # then no number depends on the size
        assert sum(layer["trained"] for layer in made["layers"]) == COUNTS[name][2]
    if name == "freeze-by-name":
        convolutions = {layer["name"] for layer in made["layers"] if layer["name"].startswith("block")}
        assert convolutions - trained == {"block1_conv2", "block4_conv3"}
    if name.startswith("vgg16-block5"):
        assert trained == {"block5_conv1", "block5_conv2", "block5_conv3", "head_dense_0", "head_dense_1"}
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert 0.0 <= metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"] <= 1.0


# --- the command


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit, and no identity that anybody could find."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "no such home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no such home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    root = tmp_path / "a checkout"
    (root / "recipes").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    git(root, "init", "--quiet")
    git(root, "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "--quiet", "--allow-empty", "-m", "c")
    monkeypatch.chdir(root)
    return root


Commands = list[tuple[list[str], dict[str, Any]]]


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True)


def identify(root: Path) -> None:
    git(root, "config", "user.name", "T")
    git(root, "config", "user.email", "t@example.com")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> "Commands":
    """What DVC would have been asked, with the params.yaml that it would have read; Git is asked for real."""
    start, seen = subprocess.Popen, []

    class Fake:
        pid = 0

        def wait(self) -> int:
            return 3

    def fake(command: list[str], **options: Any) -> Any:
        if command[0] == "git":
            return start(command, **options)
        seen.append((command[1:], yaml.safe_load((Path(options["cwd"]) / "params.yaml").read_text())))
        return Fake()

    monkeypatch.setattr(recipe.subprocess, "Popen", fake)
    return seen


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["recipe", *words])


def test_the_list_has_a_sentence_each() -> None:
    lines = call("--list").output.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all(line.endswith(".") and line.split(maxsplit=1)[1] == chosen(line.split()[0]).sentence for line in lines)


def test_a_name_or_the_list_but_not_both() -> None:
    assert "expected NAME or --list, received neither" in call().output
    assert "expected NAME or --list, received both" in call("vgg16-flatten", "--list").output


def test_a_missing_identity_is_one_line_before_anything_runs(checkout: Path, commands: Commands) -> None:
    result = call("vgg16-flatten")
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {checkout}: expected a Git identity, since DVC keeps an experiment as a commit, received no user.name"
        ": `git config user.name NAME` and `git config user.email ADDRESS`\n"
    )
    git(checkout, "config", "user.name", "T")
    assert "received no user.email" in call("vgg16-flatten").output
    assert commands == []


def test_an_identity_of_the_environment_will_do(
    checkout: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "T")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.com")
    call("vgg16-flatten")
    assert len(commands) == 1


def test_no_commit_no_repository_and_no_dvc_are_one_line_each(
    checkout: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify(checkout)
    found = recipe.importlib.util.find_spec
    monkeypatch.setattr(recipe.importlib.util, "find_spec", lambda name: None if name == "dvc" else found(name))
    assert "expected DVC in this environment, received none" in call("vgg16-flatten").output
    shutil.rmtree(checkout / ".git")
    git(checkout, "init", "--quiet")
    assert "expected a commit to start from" in call("vgg16-flatten").output
    shutil.rmtree(checkout / ".git")
    assert "expected a Git repository" in call("vgg16-flatten").output
    assert commands == []


def test_an_unknown_recipe_names_the_nearest(checkout: Path) -> None:
    result = call("vgg16-flaten")
    assert result.exit_code == 1
    assert "recipe: expected one of 13 names, received 'vgg16-flaten'; did you mean vgg16-flatten " in result.output


def test_outside_a_project_recipes_are_listed_and_none_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("--list").output.count("\n") == len(NAMES)
    assert call("vgg16-flatten").output.startswith(f"Error: {tmp_path}: expected a project with dvc.yaml, received a")


def test_of_two_recipes_of_a_name_the_project_s_own_is_meant(checkout: Path) -> None:
    (checkout / "recipes" / "vgg16-flatten.yaml").write_text("# Mine.\ntrain:\n  dense:\n    epochs: 3\n")
    assert recipe.find(checkout, "vgg16-flatten").sections == {"train.dense": {"epochs": 3}}
    assert re.search(r"^vgg16-flatten +Mine\.$", call("--list").output, re.MULTILINE)


def test_dvc_is_asked_for_every_stage_and_its_status_is_ours(checkout: Path, commands: Commands) -> None:
    identify(checkout)
    (checkout / "below").mkdir()
    os.chdir(checkout / "below")
    result = call("vgg16-flatten", "-S", "base.size=64", "-S", "+train.dense.l2=1e-5")
    assert result.exit_code == 3
    ((command, params),) = commands
    assert command == ["-m", "dvc", "repro"]
    assert (params["base"]["size"], float(params["train"]["dense"]["l2"])) == (64, 1e-5)


def test_weights_are_those_that_were_named(checkout: Path, commands: Commands) -> None:
    identify(checkout)
    (checkout / "w: 1.h5").touch()
    for given in ("none", "imagenet", "w: 1.h5"):
        call("vgg16-block5", "--weights", given)
    assert [params["base"]["weights"] for _, params in commands] == ["none", "imagenet", "w: 1.h5"]
    assert (
        "--weights: expected imagenet, none or a file, received 'gone.h5'"
        in call("vgg16-flatten", "--weights", "gone.h5").output
    )
    assert len(commands) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "base.sise=64",
            "expected a key of params.yaml, received 'base.sise': base has backbone, weights, size, resize; ",
        ),
        ("base.size", "expected KEY=VALUE, received 'base.size'"),
        ("images.size=3", "params.yaml: expected options under images, received images: 'data/digits'"),
        ("base.size=[", "--set-param base.size: expected a value as YAML has it, received '['"),
    ],
)
def test_a_change_that_is_none_is_one_line_before_anything_runs(
    change: str, told: str, checkout: Path, commands: Commands
) -> None:
    identify(checkout)
    result = call("vgg16-flatten", "-S", change)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert told in result.output
    assert commands == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train:\n  dense: {}\n", "expected a first line that says what it is"),
        ("# Mine.\ntrain: 3\n", "expected options under train, received 3"),
        ("# Mine.\ntrain:\n  dense: 3\n", "expected options under train.dense, received 3"),
        ("# Mine.\n- 3\n", "expected sections of options, received list"),
        ("# Mine.\n[\n", "expected YAML: "),
    ],
)
def test_a_recipe_that_is_none_is_one_line(checkout: Path, text: str, told: str) -> None:
    identify(checkout)
    (checkout / "recipes" / "mine.yaml").write_text(text)
    result = call("mine")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {checkout / 'recipes' / 'mine.yaml'}: {told}")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_s_sections_take_the_place_of_those_of_params_yaml(name: str, tmp_path: Path) -> None:
    from dvc.utils.serialize import loads_yaml

    path = tmp_path / "params.yaml"
    before = yaml.safe_load((ROOT / "params.yaml").read_text())
    before["finetune"]["new-conv"] = "8,8"
    path.write_text(yaml.safe_dump(before))
    sections = chosen(name).sections
    heads = {"logistic": before["train"]["logistic"], "dense": sections["train.dense"]}
    changed = {section: sections[section] for section in ("base", "probe", "extract", "finetune")}
    assert loads_yaml(recipe.edited(path, sections, [])) == before | changed | {"train": heads}


def test_what_is_no_section_of_the_recipe_stays_as_dvc_reads_it(tmp_path: Path) -> None:
    """To YAML 1.2, which DVC reads, `no` is a text and 010 is ten; to PyYAML they are not."""
    from dvc.utils.serialize import loads_yaml

    path = tmp_path / "params.yaml"
    path.write_text("images: no # mine\ntrain:\n  logistic: {positive: yes, seed: 010, C: 1e-3}\n")
    text = recipe.edited(path, {"base": {"size": 64}}, [])
    assert "images: no # mine\n" in text
    assert loads_yaml(text) == loads_yaml(path.read_text()) | {"base": {"size": 64}}


@pytest.mark.parametrize("joined", [{}, {"model": "dense"}])
def test_a_recipe_ends_with_head_and_model_the_verdict_and_the_curve(
    joined: dict[str, str], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify(checkout)
    monkeypatch.setattr(recipe, "_run", lambda *_: 0)
    numbers = (0.9, 0.8, 0.95)
    places = [Place(1, name, *numbers, *numbers, seconds=2.0) for name in ("logistic", "model", "dense")]
    pair = Pair("model", "dense", 3, 1, 0.05, -0.1, 0.2, *numbers, p=0.5, p_holm=0.5, better=NO_DIFFERENCE)
    ranking = [place for place in places if place.name not in joined]
    found = CompareResult(20, ranking, [] if joined else [pair], "nobody is better", [], joined)
    comparison, curve = checkout / recipe.COMPARISON, checkout / recipe.CURVE
    for path, text in ((comparison, json.dumps(asdict(found))), (curve, "")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    publish_digests(comparison.parent, [comparison.name])
    lines = call("vgg16-flatten").output.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("rank"))) :]
    rows = [line.split()[1] for line in table if line.split()[:1] == ["1"]]
    assert rows == (["dense"] if joined else ["model", "dense"])
    assert ("model is dense, joined to its base, and judged once." in table) == bool(joined)
    assert any(line.startswith("model over dense: ") for line in table) != bool(joined)
    assert "Verdict: nobody is better" in table
    assert lines[-1] == f"loss and accuracy over all epochs -> {recipe.CURVE}"


# --- the command, with DVC

OWN = """\
# The folder is mine.
images:   photos  # not yet committed
base:
  size: 5    # px
  then: "true"
"""
PIPELINE = """\
stages:
  first:
    cmd: echo first >> ran && echo ${base.size} > first.txt
    deps: [recipes]
    outs: [first.txt]
  second:
    cmd: echo second >> ran && ${base.then} && cp first.txt second.txt
    deps: [first.txt]
    outs: [second.txt]
"""


@pytest.fixture
def small(checkout: Path) -> Path:
    """A checkout with two quick stages, run with the user's own parameters."""
    shutil.copytree(ROOT / ".dvc", checkout / ".dvc", ignore=lambda folder, names: {"tmp", "cache"} & {*names})
    (checkout / "recipes" / "mine.yaml").write_text("# Mine.\nbase:\n  size: 7\n  then: 'true'\n")
    (checkout / "dvc.yaml").write_text(PIPELINE)
    (checkout / "params.yaml").write_text(OWN)
    identify(checkout)
    (checkout / ".gitignore").write_text("/ran\n/started\n/first.txt\n/second.txt\n")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "mine")
    (checkout / "params.yaml").write_text(OWN + "# and this, too\n")
    return checkout


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stages", "recipe", "mine", *words],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_recipe_is_kept_as_an_experiment_and_dvc_repro_brings_the_earlier_results_back(small: Path) -> None:
    running = start(small)
    told = running.communicate()[0]
    assert running.returncode == 0, told
    assert "params.yaml is yours again. What is in data/ is of this recipe: `dvc repro` brings back" in told
    assert (small / "params.yaml").read_text() == OWN + "# and this, too\n"
    assert (small / "second.txt").read_text() == "7\n"
    lock = yaml.safe_load((small / "dvc.lock").read_text())["stages"]
    assert lock["first"]["cmd"].endswith("echo 7 > first.txt")
    listed = subprocess.run(["git", "for-each-ref", "refs/exps"], capture_output=True, text=True).stdout
    (kept,) = re.findall(r"^(\w+) commit\trefs/exps/\w\w/", listed, re.M)
    shown = subprocess.run(["git", "show", f"{kept}:params.yaml"], capture_output=True, text=True).stdout
    assert yaml.safe_load(shown) == {"images": "photos", "base": {"size": 7, "then": "true"}}
    (small / "ran").unlink()
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    assert (small / "second.txt").read_text() == "5\n"
    assert not (small / "ran").exists()


def test_a_recipe_that_fails_leaves_the_user_s_file_and_no_experiment(small: Path) -> None:
    running = start(small, "-S", "base.then=false")
    told = running.communicate()[0]
    assert running.returncode not in (0, None)
    assert "params.yaml is yours again. What is in data/ is partly of this recipe" in told
    assert (small / "params.yaml").read_text() == OWN + "# and this, too\n"
    assert subprocess.run(["git", "for-each-ref", "refs/exps"], capture_output=True).stdout == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recipe_that_is_stopped_stops_its_stage_and_leaves_the_user_s_file(
    small: Path, number: signal.Signals
) -> None:
    running = start(small, "-S", "base.then=touch started && exec sleep 100")
    while not (small / "started").exists():
        assert running.poll() is None
        time.sleep(0.05)
    assert yaml.safe_load((small / "params.yaml").read_text())["base"]["size"] == 7
    assert "a recipe that is running or was killed: if none is running, `mv .dvc/tmp/params.yaml" in call("mine").output
    running.send_signal(number)
    told = running.communicate(timeout=60)[0]  # the stage has this pipe open, too
    assert running.returncode == 128 + number, told
    assert (small / "params.yaml").read_text() == OWN + "# and this, too\n"
    assert not (small / ".dvc/tmp/params.yaml").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("images=it's mine", "expected names without ', in which dvc.yaml quotes them, received it's mine"),
        ("+train.it's.C=1", "received it's"),
        ("finetune.head=it's", "received it's"),
        ("+prepare.x;touch y=1", "expected options of letters, digits and hyphens, received 'x;touch y'"),
        ("+train.logistic.$(x)=1", r"received '$(x)'"),
    ],
)
def test_a_name_that_a_shell_would_obey_is_refused_before_dvc_sees_it(
    change: str, message: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        recipe.edited(tmp_path / "params.yaml", {}, [change])


@pytest.mark.parametrize("name", ["ph$(touch x)", "~", "a; touch x", "two words", "`touch x`", '"', "&&", "猫"])
def test_dvc_hands_a_folder_of_any_other_name_to_its_command_as_it_is(name: str, tmp_path: Path) -> None:
    """What dvc.yaml quotes, in a shell: DVC resolves the templates, as before a run."""
    from dvc.parsing import DataResolver
    from dvc.repo import Repo

    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    heads = {"images": name, "finetune": {"head": name, "epochs": 0}, "train": {name: {"C": 1, "note": name}}}
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | heads
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))
    Repo.init(str(tmp_path), no_scm=True)
    resolver = DataResolver(Repo(str(tmp_path)), str(tmp_path), yaml.safe_load((tmp_path / "dvc.yaml").read_text()))
    shown = "headstart() { printf '%s\\n' \"$@\"; }\n"
    for stage, count in ((f"train@{name}", 3), (f"evaluate@{name}", 2), ("prepare", 1), ("finetune", 3)):
        (described,) = resolver.resolve_one(stage).values()
        ran = subprocess.run(["sh", "-c", shown + described["cmd"]], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        words = ran.stdout.splitlines()
        assert sum(word == name or word == f"data/heads/{name}" for word in words) == count, (stage, words)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".dvcignore") == [
        ".dvc",
        "dvc.yaml",
        "params.yaml",
    ]
