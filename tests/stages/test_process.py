"""What a command makes of a process that lacks something, and of signals: one line, a status, and nothing left."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from stages.console import Stage
from tests import ROOT, faulty

HEADSTART = "import sys; from stages.__main__ import main; main(sys.argv[1:], 'headstart')"
# A command that looks at photos in two workers, each of which waits for ever.
AT_WORK = """
import sys, time
from pathlib import Path

import click

from pipeline.photos import decode_pool
from pipeline.storage.atomic import published
from stages.console import Stage
from tests.stages import test_process

@click.command(cls=Stage)
@click.argument("folder", type=click.Path(path_type=Path))
def work(folder):
    with published(folder / "out.csv"):
        decode_pool.each(test_process.wait, [str(folder)] * 2, workers=2, progress=lambda *_: None)

work()
"""


def wait(folder: str) -> None:
    """Say who is at work, and wait to be ended."""
    (Path(folder) / f"{os.getpid()}.pid").touch()
    signal.pause()


def shell(command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    line = f'exec "{sys.executable}" -c "$PROGRAM" {command}'
    environment = os.environ | {"PROGRAM": HEADSTART, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, **options)


@pytest.mark.parametrize("command", ["--help", "--version", "backbones", "completion bash", "predict --help"])
@pytest.mark.parametrize(("where", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_a_standard_output_that_takes_nothing_is_one_line(command: str, where: str, why: str) -> None:
    result = shell(f"{command} {where}")
    assert (result.returncode, result.stderr) == (1, f"Error: standard output: {why}\n")


def test_without_a_standard_error_the_work_is_done_and_nothing_that_is_told_goes_into_a_file(tmp_path: Path) -> None:
    result = shell(f"digits {tmp_path / 'digits'} 2>&- <&-")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((tmp_path / "digits").iterdir())) == 10


@pytest.mark.parametrize("command", ["--help", "results a", "prepare photos manifest.csv", "doctor"])
def test_a_working_directory_that_was_removed_is_one_line(command: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    result = shell(command, cwd=gone, preexec_fn=gone.rmdir)
    line = result.stderr.splitlines()[-1]  # those before are the shell's
    assert (result.returncode, line) == (1, "Error: expected a working directory, received one that was removed")
    assert "Traceback" not in result.stderr


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_workers_with_the_command_and_removes_what_it_wrote_aside(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(AT_WORK), str(tmp_path)]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    faulty.until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    running.send_signal(number)
    told = running.communicate(timeout=20)[1]
    assert (running.returncode, told) == (128 + number, "Stopped. The same command begins again.\n")
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    faulty.until(lambda: not any(map(alive, workers)))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".pid"] == []


@pytest.mark.parametrize("when", ["import stages", "import stages.__main__, click"])
def test_ctrl_c_before_there_is_a_command_is_a_word_and_not_a_trace(when: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"{when}; raise KeyboardInterrupt"], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (130, "Stopped.\n")


def test_ctrl_c_while_arguments_are_read_or_a_command_is_loaded_has_the_status_of_ctrl_c() -> None:
    for place in ("click.Command.parse_args", "stages.__main__.importlib.import_module"):
        program = f"import click, unittest.mock, stages.__main__ as m\nwith unittest.mock.patch({place!r}, "
        program += "side_effect=KeyboardInterrupt): m.main(['doctor'])"
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (130, "Stopped.\n"), place


def test_a_signal_that_is_ignored_as_under_nohup_stops_nothing() -> None:
    program = """
import os, signal, click
from stages.console import Stage
signal.signal(signal.SIGHUP, signal.SIG_IGN)

@click.command(cls=Stage)
def work():
    os.kill(os.getpid(), signal.SIGHUP)
    click.echo("done")

work()
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "done\n")


def test_a_stop_that_a_library_takes_for_a_fault_of_its_own_is_a_stop() -> None:
    program = """
import os, signal, click
from stages.console import Stage

@click.command(cls=Stage)
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        while True: pass
    except KeyboardInterrupt as error:
        raise RuntimeError("the generator failed") from error

work()
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (143, "Stopped. The same command begins again.\n")


@pytest.mark.parametrize("package", ["tensorflow", "keras"])
def test_what_needs_tensorflow_says_in_one_line_what_brings_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(cls=Stage)
    def trains() -> None:
        importlib.import_module(package)

    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(trains)
    assert (result.exit_code, result.output) == (
        1,
        "Error: expected TensorFlow to be installed: pip install 'headstart[cpu]'\n",
    )
