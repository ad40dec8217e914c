"""Names in tables are no formulas to a spreadsheet, and are read again as they were."""

import csv
from pathlib import Path

import pytest

from pipeline.photos import labels_csv, manifest
from pipeline.photos.manifest import Row
from pipeline.storage.atomic import publish_csv

NAMES = [
    *("=cmd()", "+1+1", "-x", "@sum", "\t=x", "\r=x", "  =x", "＝x"),  # noqa: RUF001
    *("'=x", "''=x", "'", "'a", "a;=x", "a,b", 'a"b', "a\n=x", "plain", "-1", "+1e5", "'-1", "-inf"),
]


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_begins_as_a_formula_does_and_a_number_stays_one(name: str, tmp_path: Path) -> None:
    publish_csv(tmp_path / "t.csv", ["name", "number"], [[name, -0.5]])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        _, (cell, number) = csv.reader(file)
    assert number == "-0.5"
    assert cell == name if name in ("-1", "+1e5", "-inf") else not cell.lstrip().startswith(tuple("=+-@＝"))  # noqa: RUF001


def test_a_cell_with_a_semicolon_is_quoted_since_some_spreadsheets_end_cells_there(tmp_path: Path) -> None:
    publish_csv(tmp_path / "t.csv", ["name"], [["a;=cmd()"]])
    assert (tmp_path / "t.csv").read_text() == 'name\n"a;=cmd()"\n'


def test_a_manifest_gives_back_every_name(tmp_path: Path) -> None:
    rows = [
        Row(f"{name}/{name}.png", bytes([place] * 32), name, "train", 1, 1, "PNG") for place, name in enumerate(NAMES)
    ]
    manifest.write(manifest.from_rows(rows), tmp_path / "m.csv")
    found = manifest.read(tmp_path / "m.csv")
    assert sorted(zip(found.paths, found.labels, strict=True)) == sorted((row.path, row.label) for row in rows)


def test_labels_take_the_names_that_predict_wrote(tmp_path: Path) -> None:
    labels = [name.strip() for name in NAMES]  # of a label's blanks nothing is kept
    paths = [f"{place}/{name}.png" if place % 2 else f"{name}{place}.png" for place, name in enumerate(labels)]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    publish_csv(tmp_path / "l.csv", ["path", "label"], zip(paths, labels, strict=True))
    found = labels_csv.from_csv(tmp_path / "l.csv", tmp_path)
    assert sorted((one.path, one.label) for one in found.candidates) == sorted(zip(paths, labels, strict=True))
