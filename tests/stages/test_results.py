import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.evaluation import predictions_file
from pipeline.storage.json_files import publish_digests
from stages.results import results


def evaluated(folder: Path, accuracy: float, log_loss: float = 0.25) -> Path:
    numbers = {"images": 1200} | {
        f"{name}{end}": value
        for name, value in (("accuracy", accuracy), ("log_loss", log_loss))
        for end, value in (("", value), ("_low", value - 0.1), ("_high", value + 0.1))
    }
    folder.mkdir(parents=True)
    (folder / predictions_file.ALL_METRICS).write_text(json.dumps(numbers))
    publish_digests(folder, [predictions_file.ALL_METRICS])
    return folder


def test_what_can_be_done_next_is_named_where_it_lies_beside_the_results(tmp_path: Path) -> None:
    folders = [evaluated(tmp_path / "evaluation" / name, score) for name, score in (("dense", 0.7), ("model", 0.8))]
    (tmp_path / "report.html").touch()
    (tmp_path / "heads" / "dense").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    result = CliRunner().invoke(results, [str(folder) for folder in folders])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "test images: 1,200; in brackets 95 % intervals",
        "",
        "       accuracy              macro F1     log loss",
        "dense  0.700 [0.600, 0.800]  not defined  0.250 [0.150, 0.350]",
        "model  0.800 [0.700, 0.900]  not defined  0.250 [0.150, 0.350]",
        "",
        f"Other metrics, predictions and pictures: {folders[0]} {folders[1]}",
        f"All on one page: {tmp_path / 'report.html'}",
        f"To label photos: headstart predict {tmp_path / 'model'} PHOTOS",
    ]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (".venv/bin/headstart", ".venv/bin/headstart"),
        ("my env/bin/headstart", "'my env/bin/headstart'"),
        ("/env/bin/headstart", "headstart"),  # so a program begins that a shell found by its name
        ("stages/results.py", "headstart"),
    ],
)
def test_the_program_is_named_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, named: str
) -> None:
    folder = evaluated(tmp_path / "evaluation" / "model", 0.8)
    (tmp_path / "model").mkdir()
    monkeypatch.setattr("sys.argv", [typed, "results"])
    result = CliRunner().invoke(results, [str(folder)])
    assert result.stdout.splitlines()[-1] == f"To label photos: {named} predict {tmp_path / 'model'} PHOTOS"


def test_of_heads_that_are_as_often_right_the_one_of_less_log_loss_is_named(tmp_path: Path) -> None:
    for name, loss in (("dense", 0.3), ("logistic", 0.2), ("ridge", 0.4)):
        evaluated(tmp_path / "evaluation" / name, 0.7, loss)
        (tmp_path / "heads" / name).mkdir(parents=True)
    result = CliRunner().invoke(results, [str(tmp_path / "evaluation")])
    assert result.stdout.endswith(f"headstart predict {tmp_path / 'heads' / 'logistic'} PHOTOS\n")


def test_a_folder_of_evaluations_stands_for_those_in_it(tmp_path: Path) -> None:
    for name in ("dense", "knn"):
        evaluated(tmp_path / name, 0.7)
    result = CliRunner().invoke(results, [str(tmp_path)])
    assert [line.split()[0] for line in result.stdout.splitlines() if "0.700 [" in line] == ["dense", "knn"]
    result = CliRunner().invoke(results, [str(tmp_path / "nowhere")])
    assert (
        "expected all_metrics.json of `headstart evaluate` in it, or in folders in it, received none" in result.output
    )


def test_what_is_not_there_is_not_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(results, [str(evaluated(tmp_path / "judged", 0.7))])
    assert result.stdout.splitlines()[-1].startswith("Other metrics, predictions and pictures: ")


def test_a_head_that_was_joined_to_its_base_stands_once_in_the_table(tmp_path: Path) -> None:
    folders = [evaluated(tmp_path / name, 0.8) for name in ("logistic", "model")]
    for folder, identity in zip(folders, ("a" * 64, "b" * 64), strict=True):
        document = {"identity": identity, "head": "a" * 64}
        (folder / predictions_file.EVALUATED).write_text(json.dumps(document))
        publish_digests(folder, [predictions_file.EVALUATED])
    result = CliRunner().invoke(results, [str(folder) for folder in folders])
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if "0.800 [" in line] == ["logistic"]
    assert "model is logistic, joined to its base" in lines
