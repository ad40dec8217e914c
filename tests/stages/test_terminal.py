"""What stands on a terminal of 80 columns after each long command: its results, whole, and nothing else."""

import json
import re
import sys

import pytest

from tests.fakes import write_classes
from tests.terminal import COLUMNS, NEXT, screens

RUN_ALL = f"""
import json, sys
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from pipeline.photos import decode_pool
from stages.__main__ import main
from tests.fakes import register_tiny

register_tiny()
FigureCanvasAgg.print_png = lambda canvas, path, **_: Image.new("L", (1, 1)).save(path, "PNG")
decode_pool.each = lambda function, items, **_: [function(item) for item in items]
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments, "headstart")
    except SystemExit as end:
        assert not end.code, arguments
    sys.stderr.flush()
    print({NEXT!r}, end="", flush=True)
"""
BASE = ("--backbone", "tiny", "--weights", "none", "--size", 32, "--engine", "tensorflow", "--batch-size", 8)

RANDOM = "Warning: the base has random weights "


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The last screen of each command, run one after the other in one process, as TensorFlow takes seconds to load."""
    root = tmp_path_factory.mktemp("terminal")
    photos = write_classes(root / "photos", {"dark": 20, "bright": 20})
    manifest, features, head, model = (root / name for name in ("manifest.csv", "features.h5", "head", "model"))
    cache = ("--cache", root / "cache")
    commands = {
        "prepare": ("prepare", photos, manifest, "--workers", 1),
        "probe": ("probe", photos, manifest, root / "cut.json", *BASE, *cache),
        "extract": ("extract", photos, manifest, features, *BASE, *cache),
        "audit": ("audit", photos, manifest, features, root / "audit", "--folds", 2, "--workers", 1),
        "train": (
            "train",
            manifest,
            features,
            head,
            "--head",
            "dense",
            "--hidden",
            "4",
            "--epochs",
            3,
            "--patience",
            1,
        ),
        "finetune": (
            *(
                "finetune",
                photos,
                manifest,
                features,
                head,
                model,
                "--epochs",
                2,
                "--cut",
                "block-1",
                "--batch-size",
                8,
            ),
            *cache,
        ),
        "evaluate": ("evaluate", photos, manifest, features, head, root / "judged", "--resamples", 100),
        "predict": ("predict", head, *sorted(photos.glob("dark/00*.png")), *cache),
        "predict to a file": ("predict", head, photos, "--output", root / "labels.csv", *cache),
        "export": ("export", model, root / "exported", "--format", "keras"),
        "growth": ("growth", manifest, features, root / "growth", "--parts", 3, "--seeds", 2, "--folds", 2),
        "report": ("report", photos, manifest, features, root / "judged", root / "report.html", "--no-git"),
        "results": ("results", root / "judged"),
    }
    words = [[str(word) for word in command] for command in commands.values()]
    status, found = screens([sys.executable, "-W", "ignore", "-c", RUN_ALL, json.dumps(words)])
    assert status == 0, found
    return dict(zip(commands, found, strict=False))


def page(lines: list[str]) -> str:
    """A screen as one text, its lines joined as a terminal broke them."""
    return "".join(line.ljust(COLUMNS) for line in lines)


def test_nothing_but_results_stays_on_the_screen(seen: dict[str, list[str]]) -> None:
    bar = "[\u2800-\u28ff\u2501\u2578\u257a]|[0-9]:[0-9]{2}:[0-9]{2}"  # spinner, bar, time
    assert {name: page(lines) for name, lines in seen.items() if re.search(bar, page(lines))} == {}


@pytest.mark.parametrize(
    ("command", "first", "last"),
    [
        ("prepare", "40 images of 2 classes (train 31, val 5, test 4), 0 quarantined -> ", "manifest.csv"),
        ("probe", RANDOM, "cut.json"),
        ("extract", RANDOM, "features.h5"),
        ("audit", RANDOM, "audit"),
        ("train", "epoch 1: loss ", "head"),
        ("finetune", "epoch 1: loss ", "model"),
        ("evaluate", RANDOM, "judged"),
        ("predict", "", "009.png"),
        ("predict to a file", "40 images -> ", "labels.csv"),
        ("export", "not compared with the model", "exported"),
        ("growth", "      4 images  accuracy ", "growth"),
        ("report", "40 pictures, 40 on the map, ", "report.html"),
        ("results", "test images: 4; in brackets 95 % intervals", "judged"),
    ],
)
def test_a_command_leaves_its_results_from_the_first_line_to_the_last(
    command: str, first: str, last: str, seen: dict[str, list[str]]
) -> None:
    text = page(seen[command]).rstrip()
    assert text.startswith(first)
    assert text.endswith(last)


def test_epochs_stand_one_below_the_other_above_the_bar(seen: dict[str, list[str]]) -> None:
    assert [line.partition(":")[0] for line in seen["finetune"] if line.startswith("epoch ")] == ["epoch 1", "epoch 2"]


def test_a_photo_is_a_line_that_begins_with_its_label(seen: dict[str, list[str]]) -> None:
    rows = [line.split() for line in seen["predict"] if line.startswith(("dark", "bright"))]
    assert len(rows) == 10
    assert all(re.fullmatch(r"[01]\.\d{3}", row[1]) for row in rows)


@pytest.mark.parametrize("command", ["evaluate", "results"])
def test_no_interval_is_broken_at_80_columns(command: str, seen: dict[str, list[str]]) -> None:
    lines = seen[command]
    assert any(re.search(r"\d \[\d\.\d{3}, \d\.\d{3}\]", line) for line in lines)
    assert all(line.count("[") == line.count("]") for line in lines)
