"""What next: which three things are said to help, in which order, with which command."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.report.sections.next_steps import Facts, places, steps

PLACES = {name: name.upper() for name in ("images", "manifest", "features", "cut", "head", "trained", "backbone")}
SOUND = {"leakage": 0, "conflicts": 0, "label_issues": 0}
GOOD = Facts(
    tested=1000,
    mistakes=0,
    accuracy=(0.99, 0.98, 0.995),
    calibration_error=(0.01, 0.0, 0.02),
    calibrated=True,
    findings=SOUND,
)
PREPARE = "headstart prepare IMAGES MANIFEST"


def told(**changes: object) -> list[tuple[str, str]]:
    return steps(replace(GOOD, **changes), folder="OUT", **PLACES)


def test_where_nothing_helps_it_is_used() -> None:
    assert told() == [("Label new photos with it.", "headstart predict TRAINED NEW_PHOTOS")]


@pytest.mark.parametrize(
    ("changes", "says", "command"),
    [
        (
            {"random_base": True},
            "Take pretrained weights: the base has random ones, and its features show little of a photo.",
            "headstart extract IMAGES MANIFEST FEATURES --backbone BACKBONE --weights imagenet",
        ),
        (
            {"findings": SOUND | {"leakage": 2}},
            "Keep copies in one split: 2 test images are copies of ones learned from, so the accuracy looks better "
            "than it is.",
            f"{PREPARE} --group-near-duplicates",
        ),
        (
            {"findings": SOUND | {"label_issues": 1200, "conflicts": 1}},
            "Put labels right: 1,200 labels are likely wrong; 1 picture has two labels, as shown above. Then prepare "
            "again.",
            PREPARE,
        ),
        (
            {"other_cut": "add with max"},
            "Take the layer that the probe chose, add with max: these features are of another.",
            "headstart extract IMAGES MANIFEST FEATURES --backbone BACKBONE --cut-file CUT",
        ),
        (
            {"gain": 1.24},
            "Add training photos: twice as many would bring about +1.2 points of accuracy.",
            PREPARE,
        ),
        (
            {"tested": 81, "accuracy": (0.975, 0.914, 0.996)},
            "Add test photos: 81 photos leave the accuracy open, 0.975 [0.914, 0.996]; four times as many would halve "
            "the interval.",
            PREPARE,
        ),
        (
            {"calibrated": False, "calibration_error": (0.08, 0.03, 0.1)},
            "Calibrate the confidence: it is off by 0.080 [0.030, 0.100].",
            "headstart train MANIFEST FEATURES OUT/calibrated --calibrate temperature",
        ),
    ],
)
def test_what_helps_comes_first_with_its_command(changes: dict[str, object], says: str, command: str) -> None:
    assert told(**changes)[0] == (says, command)
    assert len(told(**changes)) == 2


def test_mistakes_ask_for_the_audit_the_probe_fine_tuning_and_the_learning_curve_in_that_order() -> None:
    commands = [command for _, command in told(mistakes=9, findings=None, probed=False)]
    assert commands == [
        "headstart audit IMAGES MANIFEST FEATURES OUT/audit",
        "headstart probe IMAGES MANIFEST OUT/cut.json --backbone BACKBONE",
        "headstart finetune IMAGES MANIFEST FEATURES HEAD OUT/tuned --epochs 5 --cut block-1",
    ]
    assert [command for _, command in told(mistakes=9, tuned=True)] == [
        "headstart growth MANIFEST FEATURES OUT/growth",
        "headstart predict TRAINED NEW_PHOTOS",
    ]


@pytest.mark.parametrize("changes", [{"gain": 0.3}, {"gain": -2.0}, {"tuned": True}])
def test_what_is_small_or_not_shown_is_not_said_to_help(changes: dict[str, object]) -> None:
    assert told(**changes) == told()


@pytest.mark.parametrize(("best", "begins"), [("logistic", "logistic"), ("tuned", "dense"), (None, "dense")])
def test_fine_tuning_begins_with_the_best_head(tmp_path: Path, best: str | None, begins: str) -> None:
    for name in ("dense", "logistic"):
        (tmp_path / "heads" / name).mkdir(parents=True)
        (tmp_path / "heads" / name / "head.json").touch()
    inputs: Any = SimpleNamespace(
        images="photos", manifest="m.csv", features=Path("features.h5"), probe=None, trained=[tmp_path / "heads"]
    )
    read: Any = SimpleNamespace(models=[SimpleNamespace(trained=best and tmp_path / "heads" / best)])
    found = places(inputs, read, {"backbone": {"name": "efficientnet_lite0"}})
    assert found["head"] == str(tmp_path / "heads" / begins)
