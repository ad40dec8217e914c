import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.storage import locks
from pipeline.storage.locks import Writer
from tests import ROOT

HOLD = """
    import signal, sys
    from pathlib import Path
    from pipeline.storage import locks
    with locks.mutex(Path(sys.argv[1])):
        held = locks.entered(Path(sys.argv[1]), 0.25, 0.5)
        held.__enter__()
    print("held", flush=True)
    signal.pause()
"""


def holder(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_nobody_is_at_work_where_nobody_ever_was_and_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert locks.living(tmp_path / "locks") == locks.abandoned(tmp_path / "locks") == []
    assert not (tmp_path / "locks").exists()


def test_a_writer_is_seen_while_it_is_at_work_and_leaves_no_file(tmp_path: Path) -> None:
    with locks.mutex(tmp_path):
        entry = locks.entered(tmp_path, 0.0, 0.5)
        entry.__enter__()
    (seen,) = locks.living(tmp_path)
    assert (seen.pid, seen.low, seen.high) == (os.getpid(), 0.0, 0.5)
    entry.__exit__(None, None, None)
    assert locks.living(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["mutex"]


def test_a_folder_that_is_removed_as_soon_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mkdir, made = tmp_path / "locks", Path.mkdir, []

    def made_and_removed(path: Path, *arguments: int, **named: bool) -> None:
        mkdir(path, *arguments, **named)
        made.append(path)
        if len(made) < 3:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", made_and_removed)
    with locks.mutex(folder):
        assert made == [folder] * 3


def test_a_killed_writer_is_not_living_and_its_file_is_cleared(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert [writer.pid for writer in locks.living(tmp_path)] == [process.pid]
        assert locks.abandoned(tmp_path) == []
        with locks.mutex(tmp_path):
            assert len(locks.cleared(tmp_path)) == 1
        process.send_signal(signal.SIGKILL)
    assert locks.living(tmp_path) == []
    assert len(locks.abandoned(tmp_path)) == 1
    with locks.mutex(tmp_path):
        assert locks.cleared(tmp_path) == []
    assert locks.abandoned(tmp_path) == []


@pytest.mark.parametrize(
    ("low", "high", "overlaps"), [(0.0, 0.25, False), (0.5, 1.0, False), (0.4, 0.6, True), (0.0, 1.0, True)]
)
def test_ranges_are_half_open(low: float, high: float, overlaps: bool) -> None:
    assert Writer("host", 1, 0.25, 0.5).overlaps(low, high) == overlaps


def test_only_one_at_a_time_is_within_the_mutex(tmp_path: Path) -> None:
    inside = 0
    most = []

    def enter() -> None:
        nonlocal inside
        for _ in range(50):
            with locks.mutex(tmp_path):
                inside += 1
                most.append(inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 200


@pytest.mark.parametrize("ask", [locks.living, locks.abandoned, lambda folder: locks.mutex(folder).__enter__()])
def test_a_stopped_process_that_holds_the_mutex_is_named_after_a_while(
    tmp_path: Path, ask: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    hold = "import signal, sys; from pipeline.storage import flock; at = open(sys.argv[1], 'a')"
    hold = f"{hold}; flock.held(at.fileno(), shared=False)"
    command = [sys.executable, "-c", f"{hold}; print(flush=True); signal.pause()", str(tmp_path / "mutex")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        who = f"process {process.pid} on" if Path("/proc/locks").exists() else "a process that"
        with pytest.raises(BusyError, match=f"mutex: {who} .* holds it and does not go on"):
            ask(tmp_path)
        process.kill()
    assert locks.living(tmp_path) == []


def test_who_waited_for_a_folder_that_was_removed_meanwhile_holds_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    entered = threading.Event()

    def wait() -> None:
        with locks.mutex(folder):
            entered.set()

    waiting = threading.Thread(target=wait)
    with locks.mutex(folder):
        waiting.start()
        assert not entered.wait(0.05)
        shutil.rmtree(folder)
    waiting.join(10)
    assert entered.is_set()
    assert (folder / "mutex").exists()


def test_an_error_within_the_mutex_comes_out_of_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locks.mutex(tmp_path):
        raise FileNotFoundError
    with locks.mutex(tmp_path):
        pass


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[]", '{"host": "a", "pid": true}', '{"owner": "a", "rows": [0, 1]}', "\xff"]
)
def test_a_lock_in_the_words_of_another_version_is_held_by_somebody_who_bars_everybody(
    tmp_path: Path, text: str
) -> None:
    with locks.mutex(tmp_path):
        entry = locks.entered(tmp_path, 0.0, 0.5, "run")
        entry.__enter__()
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(text.encode("latin-1"))
    (seen,) = locks.living(tmp_path)
    assert str(seen) == "somebody"
    assert seen.bars(0.9, 1.0, "run")
    assert not locks.abandoned(tmp_path)
    entry.__exit__(None, None, None)
    assert not locks.living(tmp_path)
