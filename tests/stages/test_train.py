"""The command `headstart train`."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.heads import registry, store
from pipeline.heads.registry import HEADS
from pipeline.heads.settings import PlateauSettings
from pipeline.setting import described
from stages.train import train
from tests.heads.test_train import project, with_views


def run(*arguments):
    return CliRunner().invoke(train, list(map(str, arguments)))


@pytest.fixture
def work(tmp_path):
    return project(tmp_path).write()


def params(work):
    return json.loads((work.head / "head.json").read_text())["params"]


def test_paths_alone_train_a_logistic_head_and_print_one_line(work):
    result = run(work.manifest, work.features, work.head, "--calibrate", "none")
    assert result.stdout == f"logistic: 7 parameters, train accuracy 1.000, val accuracy 1.000 -> {work.head}\n"
    assert result.exit_code == 0
    assert params(work) == {"C": 0.01, "l1_ratio": 0.0, "class_weight": None, "max_iter": 1000, "seed": 0}


def test_a_head_is_calibrated_on_enough_validation_images_and_says_so(tmp_path):
    work = project(tmp_path, n=150).write()
    result = run(work.manifest, work.features, work.head)
    temperature = store.load(work.head)[1]["calibration"]["temperature"]
    assert f", temperature {temperature:.3f} -> " in result.stdout
    report = tmp_path / "report.json"
    run(work.manifest, work.features, work.head, "--report", report)
    written = json.loads(report.read_text())
    assert (written["temperature"], written["calibration_rows"]) == (temperature, 60)
    assert written["log_loss_after"] <= written["log_loss_before"]
    assert written["ece_after_low"] <= written["ece_after"] <= written["ece_after_high"]
    plain = run(work.manifest, work.features, work.head, "--calibrate", "none")
    assert "temperature" not in plain.output
    assert store.load(work.head)[1]["calibration"] is None


def test_of_few_images_it_is_said_once_what_chose_and_what_the_accuracy_is_worth(tmp_path):
    work = project(tmp_path, n=40).write()
    result = run(work.manifest, work.features, work.head)
    folds, head = result.stdout.splitlines()
    assert folds == (
        "fewer than 50 validation images choose by chance, so they were learned from, and 10 folds of all 64 images "
        "chose instead"
    )
    assert "train accuracy 1.000, out-of-fold accuracy 1.000 [0.943, 1.000], temperature 0." in head
    assert result.stderr == ""


def test_every_option_of_the_logistic_head_arrives(work):
    options = "--C 0.5 --l1-ratio 0.25 --class-weight balanced --max-iter 2000 --seed 3"
    assert run(work.manifest, work.features, work.head, *options.split()).exit_code == 0
    assert params(work) == {"C": 0.5, "l1_ratio": 0.25, "class_weight": "balanced", "max_iter": 2000, "seed": 3}


def test_every_option_of_the_dense_head_arrives(work):
    options = (
        "--hidden 5,3 --activation tanh --dropout 0.25 --l1 0.001 --l2 0.002 --optimizer sgd --learning-rate 0.1 "
        "--batch-size 8 --epochs 2 --patience 1 --standardize none --class-weight balanced --seed 7"
    )
    result = run(work.manifest, work.features, work.head, "--head", "dense", *options.split())
    assert result.exit_code == 0
    assert result.stdout.startswith(f"dense: {6 * 5 + 5 + 5 * 3 + 3 + 3 + 1} parameters, train accuracy ")
    assert params(work) == {
        "hidden": [5, 3],
        "activation": "tanh",
        "dropout": 0.25,
        "l1": 0.001,
        "l2": 0.002,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 2,
        "patience": 1,
        "class_weight": "balanced",
        "standardize": "none",
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ridge", "--alpha 2.5 --class-weight balanced", {"alpha": 2.5, "class_weight": "balanced"}),
        ("centroid", "--class-weight balanced", {"class_weight": "balanced"}),
        ("knn", "--neighbors 3 --metric euclidean", {"neighbors": 3, "metric": "euclidean", "class_weight": None}),
    ],
)
def test_every_option_of_the_other_heads_arrives(work, kind, options, expected):
    result = run(work.manifest, work.features, work.head, "--head", kind, *options.split())
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{kind}: ")
    assert params(work) == expected


def test_hidden_none_is_softmax_regression_and_of_views_it_is_said_how_many_passes_an_epoch_is(work):
    with_views(work, 3)
    result = run(work.manifest, work.features, work.head, "--head", "dense", "--hidden", "none", "--epochs", 2)
    assert params(work)["hidden"] == []
    assert ", 6 passes over the photos in 2 epochs of 3 views, " in result.stdout


def test_every_parameter_of_every_head_has_an_option_with_a_default():
    options = {option.name: option for option in train.params}
    for kind in HEADS:
        for name in {*registry.parameters_of(kind)} - {registry.PLATEAU} | {*described(PlateauSettings)}:
            assert options[name].default is not None
            assert options[name].show_default


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("logistic", "--hidden", "8"),
        ("logistic", "--patience", "10"),
        ("dense", "--C", "1"),
        ("dense", "--l1-ratio", "0"),
        ("centroid", "--alpha", "1"),
        ("ridge", "--seed", "1"),
    ],
)
def test_an_option_of_another_head_is_a_usage_error_that_names_both(work, kind, option, value):
    result = run(work.manifest, work.features, work.head, "--head", kind, option, value)
    assert result.exit_code == 2
    owners = " or ".join(
        f"--head {name}" for name in HEADS if option[2:].replace("-", "_") in registry.parameters_of(name)
    )
    assert f"{option}: expected with {owners}, received --head {kind}" in result.output
    assert not work.head.exists()


def test_a_rate_falls_for_a_head_that_has_one(work):
    result = run(work.manifest, work.features, work.head, "--plateau-patience", 3)
    assert result.exit_code == 2
    assert "--plateau-patience: expected with --head dense, received --head logistic" in result.output


def test_a_search_chooses_what_is_not_given_and_says_what(work):
    result = run(work.manifest, work.features, work.head, "--search", "--C", 0.5, "--folds", 3, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("searched 3 candidates on 150 images held out: l1_ratio ")
    assert params(work)["C"] == 0.5
    assert {"head.json", "arrays.npz", "search.csv", "search.png"} == {path.name for path in work.head.iterdir()}


def test_settings_that_a_search_left_out_are_named_in_terminal_table_and_picture(tmp_path, monkeypatch):
    work, titles = project(tmp_path, shape=(100,)), []
    work = replace(work, rows=np.random.default_rng(0).normal(size=work.rows.shape) + work.rows / 20).write()
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda axes, title, **_: titles.append(title))
    result = run(work.manifest, work.features, work.head, "--search", "--l1-ratio", 0, "--folds", 3)
    with (work.head / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    count = sum(row["choice"] == "not tried: losing" for row in rows)
    assert 0 < count < len(rows)
    assert f"searched {len(rows) - count} candidates ({count} more not tried: losing) on 150 images" in result.stdout
    assert titles[0].startswith(f"{len(rows) - count} candidates on 150 images held out; {count} not tried: losing\n")


def test_a_wish_for_precision_leaves_a_threshold_and_says_what_it_reaches(work):
    result = run(work.manifest, work.features, work.head, "--precision-at-least", 0.9, "--positive", "cat")
    assert result.stdout.startswith("cat from a probability of 0.")
    assert "precision 1.000, recall 1.000" in result.output
    assert json.loads((work.head / "head.json").read_text())["threshold"]["positive"] == "cat"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--search --folds 1", "expected 0, or 2 or more, received 1"),
        ("--precision-at-least 0.9 --recall-at-least 0.9", "--recall-at-least: expected with no --precision-at-least"),
        ("--memory lots", "expected bytes as in 500MB or 2GB, received 'lots'"),
    ],
)
def test_options_without_effect_or_sense_are_usage_errors(work, options, message):
    result = run(work.manifest, work.features, work.head, *options.split())
    assert result.exit_code == 2
    assert message in result.output
    assert not work.head.exists()


@pytest.mark.parametrize("kind", ["logistic", "ridge", "centroid"])
def test_features_that_do_not_fit_the_memory_give_the_same_head(work, kind):
    shown = []
    for memory in ("1GB", "1kB"):
        result = run(work.manifest, work.features, work.head, "--head", kind, "--memory", memory)
        assert result.exit_code == 0, result.output
        head, _ = store.load(work.head)
        shown.append(head.stack().kernels[0])
    np.testing.assert_allclose(shown[0], shown[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    ["--C 0", "--l1-ratio 2", "--head dense --hidden 8,", "--head dense --hidden 0", "--head dense --hidden -3",
     "--head dense --dropout 1", "--head forest", "--seed -1"],
)  # fmt: skip
def test_values_out_of_range_are_usage_errors(work, options):
    assert run(work.manifest, work.features, work.head, *options.split()).exit_code == 2


def test_foreseen_errors_are_one_line_and_status_one(work):
    result = run(work.manifest, work.root / "none.h5", work.head)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_solver_that_gave_up_is_a_warning_on_stderr(work):
    result = run(work.manifest, work.features, work.head, "--max-iter", 1, "--C", 1e6)
    assert result.exit_code == 0
    assert " Warning: logistic: expected the solver to converge within --max-iter 1" in result.stderr
    assert result.stdout.startswith("logistic: ")
