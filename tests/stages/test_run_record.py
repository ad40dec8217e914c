"""How long the steps of a run still take, by what the last run took, by their shares, and by what a step counts."""

from pathlib import Path

import pytest

from pipeline.storage.json_files import publish
from stages import run_record
from stages.run_record import Done, Step, TimeLeft

STEPS = [Step(name, (), (), (Path(name),)) for name in ("prepare", "probe", "extract", "report")]
LAST = {"prepare prepare": 10.0, "probe probe": 100.0, "extract extract": 40.0, "report report": 50.0}
SHARES = {"prepare": 1, "probe": 10, "extract": 4, "report": 5}


@pytest.fixture(autouse=True)
def shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "SHARES", SHARES)


@pytest.mark.parametrize(
    ("known", "finished", "gone", "counted", "seconds"),
    [
        ({}, [], 3.0, None, None),  # nothing is known, and nothing counted
        ({}, [], 3.0, 17.0, 17 + 19 * 20),  # what is counted alone says how fast all is
        (LAST, [], 4.0, None, 6 + 190),
        (LAST, [], 4.0, 30.0, 30 + 190),  # there is more to do than in the last run
        (LAST, [], 25.0, None, 190),  # it takes longer than in the last run, nobody knows how long
        ({}, [20.0], 50.0, None, 150 + 9 * 20),
        ({}, [20.0, 100.0], 10.0, None, (4 + 5) * 120 / 11 - 10),
        (LAST, [20.0], 0.0, None, 100 + 90),  # a step that took longer says nothing of the others
        ({"report report": 7.0}, [20.0], 0.0, None, (10 + 4) * 27 / 6 + 7),
        (LAST, [20.0, 90.0, 40.0], 49.0, 3.0, 3),
    ],
)
def test_the_time_left_is_that_of_all_steps(
    known: dict[str, float], finished: list[float], gone: float, counted: float | None, seconds: float | None
) -> None:
    left, now = TimeLeft(known, 0.0), 0.0
    for place, took in enumerate(finished):
        left.begin("", STEPS[place], STEPS[place + 1 :], now)
        now += took
        assert left.end(now) == took
    place = len(finished)
    left.begin("3/4 extract", STEPS[place], STEPS[place + 1 :], now)
    expected = None if seconds is None else pytest.approx(seconds)
    assert left.seconds(counted, now + gone) == expected
    text, done, total = left.told("2 of 9 rows", counted, now + gone)
    assert (done, total) == (now + gone, None if seconds is None else pytest.approx(now + gone + seconds))
    assert text.startswith("3/4 extract") and text.endswith(": 2 of 9 rows")
    assert ("about" in text) == (seconds is not None)


def test_every_step_has_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from stages import run

    steps = [step for base in (None, "b") for step in run._rest(Path("i"), Path("o"), "best", base)]
    assert {"prepare", "probe", *(step.command for step in steps)} == set(run_record.SHARES)


def test_a_record_of_a_run_before_seconds_were_kept_is_read(tmp_path: Path) -> None:
    publish(tmp_path / "run.json", {"format": 1, "steps": {"a": {}}})
    done = Done(tmp_path / "run.json")
    assert (done.steps, done.seconds) == ({"a": {}}, {})
    done.add(STEPS[0], {}, 2.34)
    assert Done(tmp_path / "run.json").seconds == {"prepare prepare": 2.3}
