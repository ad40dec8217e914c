"""A result goes to a place of its own: not over what is read, not among the photos, not to a result of another kind."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.audit import audit
from pipeline.evaluation import compare, predictions_file
from pipeline.export import bundle
from pipeline.heads import store
from pipeline.heads.selection import learning_curve
from pipeline.models.model import MODEL_FILE
from pipeline.storage.json_files import RECORDS
from stages.__main__ import main

READ = ("m.csv", "f.h5", "head", "evaluated", "photos/a")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in READ:
        (Path(name).mkdir(parents=True) if "." not in name else Path(name).touch())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("extract photos m.csv m.csv", "FEATURES': expected another place than that of MANIFEST, which is read"),
        ("probe photos m.csv ./m.csv", "CUT.json': expected another place than that of MANIFEST"),
        ("report photos m.csv f.h5 evaluated f.h5", "REPORT.html': expected another place than that of FEATURES"),
        ("train m.csv f.h5 m.csv", "HEAD_DIR': Directory 'm.csv' is a file"),
        ("growth m.csv f.h5 m.csv", "OUT_DIR': Directory 'm.csv' is a file"),
        ("evaluate photos m.csv f.h5 head head", "OUT_DIR': expected another place than that of TRAINED_DIR"),
        ("finetune photos m.csv f.h5 head head", "MODEL_DIR': expected another place than that of HEAD_DIR"),
        ("evaluate photos m.csv f.h5 head photos/out", "OUT_DIR': expected a folder outside the photos in photos"),
        ("audit photos m.csv f.h5 photos", "OUT_DIR': expected another place than that of IMAGES"),
        ("audit photos m.csv f.h5 photos/../photos/a", "OUT_DIR': expected a folder outside the photos"),
        ("prepare photos photos", "MANIFEST': File 'photos' is a directory"),
        ("cache list --cache m.csv", "--cache': Directory 'm.csv' is a file"),
    ],
)
def test_a_result_goes_neither_to_what_is_read_nor_among_the_photos(words: str, told: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert (result.exit_code, told in " ".join(result.output.split())) == (2, True), result.output
    assert all(Path(name).exists() for name in READ)


OWN = {
    store.HEAD_FILE: "train m.csv f.h5 out",
    MODEL_FILE: "finetune photos m.csv f.h5 head out",
    predictions_file.ALL_METRICS: "evaluate photos m.csv f.h5 head out",
    compare.SUMMARY: "compare evaluated out",
    audit.COUNTS: "audit photos m.csv f.h5 out",
    learning_curve.FORECAST: "growth m.csv f.h5 out",
}


def test_every_kind_of_result_is_known() -> None:
    assert RECORDS.keys() == {*OWN, bundle.DOCUMENT}


@pytest.mark.parametrize("record", OWN)
def test_a_folder_with_a_result_of_another_kind_is_refused_before_any_work(record: str) -> None:
    other = MODEL_FILE if record != MODEL_FILE else store.HEAD_FILE
    Path("out").mkdir()
    Path("out", other).touch()
    Path("evaluated", predictions_file.PREDICTIONS).touch()
    result = CliRunner().invoke(main, OWN[record].split())
    assert result.exit_code == 1
    assert f"out: expected a folder for {RECORDS[record]} alone, received one with {RECORDS[other]}" in result.output


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("nowhere", "nothing of that name"),
        ("m.csv", "a file"),
        ("photos", "a folder with neither"),
        ("heads", "a folder with dense, knn"),
        ("evaluated", "a folder with an evaluation"),
    ],
)
@pytest.mark.parametrize("command", ["predict {} photos", "serve {}", "evaluate photos m.csv f.h5 {} out"])
def test_what_is_neither_head_nor_model_is_called_what_it_is(command: str, name: str, received: str) -> None:
    Path("evaluated", predictions_file.ALL_METRICS).touch()
    for inside in ("dense", "knn"):
        Path("heads", inside).mkdir(parents=True)
        Path("heads", inside, store.HEAD_FILE).touch()
    Path("photos/1.jpg").touch()
    Path("m.csv").write_text(f"path,digest,label,split,width,height,format\n1.jpg,{0:064},a,test,1,1,PNG\n")
    result = CliRunner().invoke(main, command.format(name).split())
    assert result.exit_code == 1
    assert f"{name}: expected the folder of a head or a model, received {received}" in result.output
