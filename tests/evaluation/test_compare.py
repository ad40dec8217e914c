"""Evaluations on the same test images are set side by side; others are refused; the verdict says what was shown."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ArtefactError, InputError
from pipeline.evaluation import compare, predictions_file
from pipeline.evaluation.compare import expand
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.heads import training_time
from pipeline.stats import metrics

pytestmark = pytest.mark.usefixtures("undrawn")

N = 200


def evaluated(folder, wrong, *, n=N, sure=0.9, order=None, **changes):
    """An evaluation of n images of two classes, in which those numbered in `wrong` are mistaken."""
    actual = np.arange(n) % 2
    predicted = np.where(np.isin(np.arange(n), list(wrong)), 1 - actual, actual)
    probabilities = np.where(np.eye(2, dtype=bool)[predicted], sure, 1 - sure)
    order = np.arange(n) if order is None else order
    columns = {
        "paths": [f"{number:03}.png" for number in order],
        "digests": [f"{number:064x}" for number in order],
        "labels": [["cat", "dog"][code] for code in actual[order]],
        "predicted": [["cat", "dog"][code] for code in predicted[order]],
    }
    found = predictions_file.Predictions(
        **columns | changes, classes=["cat", "dog"], probabilities=probabilities[order]
    )
    predictions_file.write_predictions(folder, found)
    measured = metrics.measure(actual, probabilities, found.classes, seed=0, resamples=100)
    flat = {f"{name}{end}": measured[name][key] for name in ("accuracy", "log_loss") for end, key in ENDS.items()}
    predictions_file.write_metrics(folder, {"images": n} | flat)
    return folder


ENDS = {"": "value", "_low": "low", "_high": "high"}


def compared(folders, result, reports=None):
    return compare.compare(folders, result, CompareSettings(reports=reports))


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def three(tmp_path):
    """Two heads that differ on five images, and one that is much worse."""
    good = evaluated(tmp_path / "dense", range(4))
    near = evaluated(tmp_path / "logistic", range(2, 7))
    poor = evaluated(tmp_path / "centroid", range(40))
    return [near, poor, good]


def test_the_ranking_is_by_accuracy_and_a_rank_counts_those_shown_to_be_better(three, tmp_path):
    summary = compared(three, tmp_path / "result")
    assert [(place.rank, place.name, place.accuracy) for place in summary.ranking] == [
        (1, "dense", 0.98),
        (1, "logistic", 0.975),
        (3, "centroid", 0.8),
    ]


def test_each_pair_has_its_differences_p_and_who_is_better(three, tmp_path):
    summary = compared(three, tmp_path / "result")
    close, clear, other = summary.pairs
    assert (close.first, close.second, close.first_alone, close.second_alone) == ("dense", "logistic", 3, 2)
    assert (close.p, close.p_holm, close.better) == (0.6875, 0.6875, "no difference shown")
    assert close.accuracy == 0.005
    assert close.accuracy_low < 0 < close.accuracy_high
    assert close.log_loss == pytest.approx((4 - 5) / N * np.log(9), abs=1e-6)
    assert (clear.second, clear.better, clear.p) == ("centroid", "dense", float(f"{0.5**36:.4g}"))
    assert clear.p_holm == pytest.approx(3 * clear.p, rel=1e-3)
    assert (other.first, other.second, other.better) == ("logistic", "centroid", "logistic")


def test_the_verdict_is_one_sentence_about_the_first(three, tmp_path):
    near, poor, good = three
    close = compared([near, good], tmp_path / "a").verdict
    assert close == "dense is not shown to be better than logistic: 0.5 [-2.3, 3.4] points, p = 0.69"
    assert compared([poor, good], tmp_path / "b").verdict.startswith(
        "dense is better than centroid: 18.0 [13.3, 23.9] points, p < 0.001"
    )
    assert compared(three, tmp_path / "c").verdict == (
        "dense is not shown to be better than logistic: 0.5 [-2.3, 3.4] points, p = 0.69; it is better than centroid: "
        "18.0 [12.4, 25.4] points, p < 0.001"
    )


def test_the_folder_holds_tables_verdict_and_a_picture(three, tmp_path, drawn):
    result = tmp_path / "result"
    summary = compared(three, result)
    assert {path.name for path in result.iterdir()} == {
        "comparison.csv",
        "ranking.csv",
        "comparison.json",
        "digests.json",
        "ranking.png",
    }
    assert [row["better"] for row in rows(result / "comparison.csv")] == ["no difference shown", "dense", "logistic"]
    assert [row["seconds"] for row in rows(result / "ranking.csv")] == ["", "", ""]
    written = json.loads((result / "comparison.json").read_text())
    assert (written["images"], written["verdict"]) == (N, summary.verdict)
    assert len(written["pairs"]) == len(written["ranking"]) == 3
    with Image.open(result / "ranking.png") as picture:
        assert picture.size[0] > 600


def test_neither_the_order_of_the_folders_nor_that_of_the_images_changes_a_byte(three, tmp_path, drawn):
    compared(three, tmp_path / "a")
    evaluated(tmp_path / "dense", range(4), order=np.random.default_rng(0).permutation(N))
    compared(three[:2][::-1] + three[2:], tmp_path / "b")
    for name in ("comparison.csv", "ranking.csv", "ranking.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_images_are_matched_by_digest_whatever_their_paths(three, tmp_path):
    moved = evaluated(tmp_path / "moved", range(4), paths=[f"elsewhere/{number}.png" for number in range(N)])
    assert compared([three[0], moved], tmp_path / "result").pairs[0].accuracy == 0.005


def test_other_test_images_are_refused_with_both_folders_named(three, tmp_path):
    longer = evaluated(tmp_path / "longer", range(4), n=N + 2)
    with pytest.raises(
        InputError, match=r"same test images in .*dense and .*longer.*longer alone has '200\.png' and 1"
    ):
        compared([three[2], longer], tmp_path / "result")
    assert not (tmp_path / "result").exists()


def test_other_labels_are_refused_with_both_folders_named(three, tmp_path):
    labels = ["cat", "dog"] * (N // 2)
    labels[6] = "dog"
    other = evaluated(tmp_path / "other", range(4), labels=labels)
    with pytest.raises(InputError, match=r"same labels in .*dense and .*other, received 'cat' and 'dog' for 006\.png"):
        compared([three[2], other], tmp_path / "result")


def test_a_folder_with_files_of_two_runs_is_refused(three, tmp_path):
    numbers = predictions_file.read_metrics(three[0]) | {"accuracy": 0.5}
    predictions_file.write_metrics(three[0], numbers)
    with pytest.raises(
        ArtefactError, match=r"logistic: expected all_metrics\.json and predictions\.csv of one evaluation"
    ):
        compared(three, tmp_path / "result")


def test_an_evaluation_without_a_number_that_the_ranking_needs_is_refused(three, tmp_path):
    predictions_file.write_metrics(three[0], {"images": N, "accuracy": 0.975})
    with pytest.raises(
        ArtefactError, match=r"logistic/all_metrics\.json: expected accuracy_low: a number, received none"
    ):
        compared(three, tmp_path / "result")


def test_a_folder_of_evaluations_stands_for_all_in_it(three, tmp_path):
    assert expand([tmp_path]) == [tmp_path / "centroid", tmp_path / "dense", tmp_path / "logistic"]
    assert expand([three[0], tmp_path])[0] == three[0]
    assert len(expand([three[0], tmp_path])) == 3


def test_one_evaluation_or_none_is_an_error(three, tmp_path):
    with pytest.raises(InputError, match=r"expected two evaluations or more, received .*logistic"):
        compared(three[:1], tmp_path / "result")
    with pytest.raises(ArtefactError, match=r"nowhere: expected predictions\.csv"):
        compared([tmp_path / "nowhere"], tmp_path / "result")


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    pair = [evaluated(tmp_path / place / "logistic", range(wrong)) for place, wrong in (("a", 3), ("b", 4))]
    names = [place.name for place in compared(pair, tmp_path / "result").ranking]
    assert [name.split("/")[-2:] for name in names] == [["a", "logistic"], ["b", "logistic"]]


def test_costs_stand_in_the_ranking(three, tmp_path):
    training_time.write(tmp_path / "reports/dense.json", training_time.Cost("train", 12.5))
    summary = compared(three, tmp_path / "result", tmp_path / "reports")
    assert [place.seconds for place in summary.ranking] == [12.5, None, None]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (range(39), "fine-tuning centroid is not shown to be worth it: tuned is not shown to be better than centroid"),
        (range(4), "fine-tuning centroid was worth it: tuned is better than centroid"),
        (range(80), "fine-tuning centroid was not worth it: centroid is better than tuned"),
    ],
)
def test_of_a_fine_tuned_model_it_is_said_whether_it_was_worth_its_time(three, tmp_path, wrong, expected):
    evaluated(tmp_path / "tuned", wrong)
    for name, started_from in (("centroid", None), ("dense", None), ("tuned", "1 of centroid")):
        subject = predictions_file.Subject(f"1 of {name}", None, started_from)
        predictions_file.write_evaluated(tmp_path / name, subject)
    training_time.write(tmp_path / "reports/centroid.json", training_time.Cost("train", 0.4))
    # The head lay in a folder of another name when the model was made of it.
    training_time.write(tmp_path / "reports/tuned.json", training_time.Cost("finetune", 130.0, "mine"))
    (sentence,) = compared([tmp_path], tmp_path / "result", tmp_path / "reports").fine_tuning
    assert sentence.startswith(f"{expected}, ")
    assert sentence.endswith("; it took 130 s beside 0.4 s for the head")
    (shorter,) = compared([tmp_path], tmp_path / "result").fine_tuning
    assert shorter == sentence.partition("; it took")[0]


def test_of_a_model_that_is_only_joined_nothing_is_said_about_fine_tuning(three, tmp_path):
    training_time.write(tmp_path / "reports/dense.json", training_time.Cost("join", 0.0, "logistic"))
    assert compared(three, tmp_path / "result", tmp_path / "reports").fine_tuning == []


def test_a_model_that_is_a_head_joined_to_its_base_is_judged_once(three, tmp_path):
    for folder in three:
        predictions_file.write_evaluated(folder, predictions_file.Subject(folder.name, folder.name))
    model = evaluated(tmp_path / "model", range(2, 7))
    predictions_file.write_evaluated(model, predictions_file.Subject("of the model", "logistic"))
    summary = compared([*three, model], tmp_path / "result")
    assert [place.name for place in summary.ranking] == ["dense", "logistic", "centroid"]
    assert (len(summary.pairs), summary.joined, summary.fine_tuning) == (3, {"model": "logistic"}, [])
    assert {"dense", "model"} == {place.name for place in compared([three[2], model], tmp_path / "other").ranking}


def test_a_head_beside_nothing_but_its_joined_model_stands_alone_and_a_training_in_vain_is_told(tmp_path):
    for name in ("logistic", "model"):
        predictions_file.write_evaluated(
            evaluated(tmp_path / name, range(3)), predictions_file.Subject(name, "logistic")
        )
    training_time.write(tmp_path / "reports/model.json", training_time.Cost("finetune", 7.0, "logistic"))
    summary = compared([tmp_path], tmp_path / "result", tmp_path / "reports")
    assert summary.verdict == "logistic stands alone: there is nothing to compare it with"
    assert (summary.pairs, rows(tmp_path / "result/comparison.csv")) == ([], [])
    assert summary.fine_tuning == [
        "fine-tuning logistic was not worth it: no epoch was better on the validation split, so model is logistic; it "
        "took 7.0 s"
    ]
