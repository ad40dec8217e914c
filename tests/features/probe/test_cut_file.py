"""cut.json says where to cut one backbone, and refuses to say it for another."""

import json
from pathlib import Path

import pytest

from pipeline.errors import ArtefactError, InputError
from pipeline.features.probe import cut_file


def written(path: Path) -> Path:
    figures = {"images": 3, "chosen": {"accuracy": 0.5}}
    cut_file.write(path, backbone="vgg16", cut="block3_pool", pooling="grid2", why="it is so", figures=figures)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.json")
    assert cut_file.read(path, backbone="vgg16") == ("block3_pool", "grid2")
    found = json.loads(path.read_text())
    assert found == {
        "sha256": found["sha256"],
        "format": 1,
        "backbone": "vgg16",
        "cut": "block3_pool",
        "pooling": "grid2",
        "why": "it is so",
        "figures": {"images": 3, "chosen": {"accuracy": 0.5}},
    }


def test_the_same_choice_gives_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a.json").read_bytes() == written(tmp_path / "b.json").read_bytes()


def test_a_cut_of_another_backbone_is_refused_by_both_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cut\.json: expected a cut of the backbone xception, received one of vgg16"):
        cut_file.read(written(tmp_path / "cut.json"), backbone="xception")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected a cut in JSON, received Expecting"),
        ("[]", r"expected a cut, a JSON object, received \[\]"),
        ('{"format": 2}', "expected a cut of format 1, received format 2"),
        (
            '{"format": 1, "cut": "a", "pooling": 3, "backbone": "vgg16"}',
            "expected pooling: one of avg, max, .*, received 3",
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cut.json"
    path.write_text(text)
    with pytest.raises(ArtefactError, match=said):
        cut_file.read(path, backbone="vgg16")


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"expected a cut, received no such file; run `hs\.probe` again"):
        cut_file.read(tmp_path / "cut.json", backbone="vgg16")
