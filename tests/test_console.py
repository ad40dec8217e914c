import io
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.errors import InputError
from stages import console
from stages.__main__ import COMMANDS, main
from stages.console import Stage


def stage_that(raises: BaseException) -> click.Command:
    @click.command(cls=Stage)
    def stage() -> None:
        raise raises

    return stage


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            InputError("photos: expected a folder,\n received a file"),
            "Error: photos: expected a folder, received a file\n",
        ),
        (OSError(28, "No space left on device", "a.h5"), "Error: [Errno 28] No space left on device: 'a.h5'\n"),
    ],
)
def test_a_foreseen_error_is_one_line_and_status_1(error: BaseException, line: str) -> None:
    result = CliRunner().invoke(stage_that(error))
    assert (result.exit_code, result.stderr) == (1, line)


def test_a_defect_keeps_its_trace() -> None:
    assert isinstance(CliRunner().invoke(stage_that(ZeroDivisionError())).exception, ZeroDivisionError)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_also_a_module_and_answers_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name} ")
    assert (Path(__file__).parents[1] / "stages" / f"{name}.py").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_an_unknown_option_is_a_usage_error_with_status_2() -> None:
    result = CliRunner().invoke(main, ["digits", "--nonsense"])
    assert result.exit_code == 2
    assert "--nonsense" in result.stderr


def test_help_loads_nothing_heavy() -> None:
    heavy = ("tensorflow", "keras", "sklearn", "matplotlib", "openvino", "PIL")
    for arguments in (["--help"], *([name, "--help"] for name in COMMANDS)):
        program = (
            "import sys; from stages.__main__ import main\n"
            f"try: main({arguments!r})\n"
            f"except SystemExit: sys.exit(', '.join(m for m in {heavy!r} if m in sys.modules) or 0)"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert run.returncode == 0, (arguments, run.stderr)


def test_progress_elsewhere_than_on_a_terminal_is_a_line_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0, 25.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("images") as advance:
        for done in (100, 200, 300, 400):
            advance(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "200 of 1,000 images, 20.0 a second, 40 s left",
        "400 of 1,000 images, 16.0 a second, 38 s left",
    ]


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress("images") as advance:
        advance(1, 2)
        advance(2, 2)
    assert "100%" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
