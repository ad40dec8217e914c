import io
import logging
import os
import re
import runpy
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pipeline.errors import InputError
from stages import console
from stages.__main__ import COMMANDS, main
from stages.console import LOGGER, Stage
from tests import ROOT
from tests.terminal import screens


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


BAR_AND_RESULT = (
    "from stages import console\nwith console.progress('images') as advance: print('the result', flush=True)"
)


@click.command(cls=Stage)
def talking() -> None:
    LOGGER.debug("a detail")
    LOGGER.info("what is done")
    console.warn("something is odd")
    console.tell("epoch 1")
    with console.progress("images") as advance:
        advance(1, 2)
    click.echo("the result")


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
        (OSError(28, "No space left on device", "a.h5"), "Error: a.h5: No space left on device\n"),
        (OSError(21, "Is a directory", ".r-x", None, "r.html"), "Error: r.html: Is a directory\n"),
    ],
)
def test_a_foreseen_error_is_one_line_and_status_1(error: BaseException, line: str) -> None:
    result = CliRunner().invoke(stage_that(error))
    assert (result.exit_code, result.stderr) == (1, line)


def test_a_defect_keeps_its_trace() -> None:
    assert isinstance(CliRunner().invoke(stage_that(ZeroDivisionError())).exception, ZeroDivisionError)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_also_a_module_and_answers_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name} ")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "stages" / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"Usage: {name}.py ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_an_unknown_option_is_a_usage_error_with_status_2() -> None:
    result = CliRunner().invoke(main, ["digits", "--nonsense"])
    assert result.exit_code == 2
    assert "--nonsense" in result.stderr


LOADS = """
import sys
from stages.__main__ import main
for arguments in (["--help"], *([name, "--help"] for name in sys.argv[1].split())):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    heavy = {"tensorflow", "keras", "sklearn", "matplotlib", "openvino", "PIL"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
import keras
assert not {"sklearn", "matplotlib"} & set(sys.modules)
import openvino
assert "openvino.tools.ovc" not in sys.modules
import sklearn, matplotlib, openvino.tools.ovc
"""


def test_help_loads_nothing_heavy_and_keras_and_openvino_no_more_than_what_runs_networks() -> None:
    run = subprocess.run([sys.executable, "-c", LOADS, " ".join(COMMANDS)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_progress_elsewhere_than_on_a_terminal_is_a_line_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 4.0, 12.0, 14.0, 24.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(console.time, "strftime", lambda form: "2026-01-02 03:04:05")
    with console.progress("images") as advance:
        for done in (100, 200, 300, 400):
            advance(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "2026-01-02 03:04:05 200 of 1,000 images, 12.5 a second, 64 s left",
        "2026-01-02 03:04:05 400 of 1,000 images, 15.0 a second, 40 s left",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress("images") as advance:
        advance(1, 2)
        advance(2, 2)
    assert "2 of 2 images" in terminal.getvalue()


def test_one_bar_shows_what_moved_last(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress("images"), console.progress("batches") as training:
        training(3, 4)
    assert "3 of 4 batches" in terminal.getvalue()
    assert "images" not in terminal.getvalue()


def test_one_bar_shows_all_steps_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def whole(text: str, left: float | None, now: float) -> tuple[str, float, float | None]:
        return f"3/7 extract, about 4 min left{text and f': {text}'}", 60, 300

    with click.Context(click.Command("run")), console.steps(whole) as draw:
        draw()
        with console.progress("images") as advance:
            advance(1, 2)
    shown = terminal.getvalue()
    assert "3/7 extract, about 4 min left" in shown and "3/7 extract, about 4 min left: 1 of 2 images" in shown


def test_a_result_that_comes_while_a_bar_is_shown_stands_above_it_alone() -> None:
    status, (screen,) = screens(
        [
            sys.executable,
            "-c",
            BAR_AND_RESULT.replace("print(", "advance(1, 2); console.say(").replace(", flush=True", ""),
        ]
    )
    assert (status, screen) == (0, ["the result"])


def test_where_results_go_through_a_pipe_there_is_no_bar_among_them() -> None:
    status, (screen,) = screens(["bash", "-c", f'"{sys.executable}" -c "{BAR_AND_RESULT}" | cat'])
    assert (status, screen) == (0, ["the result"])


def test_who_stops_a_command_is_told_what_is_kept() -> None:
    @click.command(cls=Stage, kept="All rows are.")
    def stopped() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(stopped)
    assert (result.exit_code, result.output) == (130, "Stopped. All rows are.\n")


@pytest.mark.parametrize("command", ["backbones", "backbones efficientnet_lite0", "cache list", "doctor"])
def test_a_reader_who_has_enough_ends_a_command_without_a_word(command: str) -> None:
    line = f'"{sys.executable}" -m stages {command} | true; exit ${{PIPESTATUS[0]}}'
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode in (0, 141), run.stdout, run.stderr) == (True, "", "")


@pytest.mark.parametrize(("typed", "meant"), [("predct", "predict"), ("trian", "train")])
def test_a_command_that_is_spelled_wrong_is_guessed(typed: str, meant: str) -> None:
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such command {typed!r}. Did you mean {meant}?\n")


def test_an_option_that_is_spelled_wrong_is_guessed() -> None:
    assert "(Did you mean one of: '--epochs', " in CliRunner().invoke(main, ["train", "--epoch", "3"]).stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], ["Warning: something is odd", "epoch 1"]),
        (["-v"], ["what is done", "Warning: something is odd", "epoch 1"]),
        (["-vv"], ["a detail", "what is done", "Warning: something is odd", "epoch 1"]),
        (["-q"], ["Warning: something is odd"]),
    ],
)
def test_v_tells_more_and_q_less_each_line_with_its_time_in_a_file(options: list[str], told: list[str]) -> None:
    result = CliRunner().invoke(talking, options)
    lines = result.stderr.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == told
    assert all(re.match(r"\d{4}-", line) for line in lines)
    assert result.stdout == "the result\n"


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_terminal_gets_colours_and_no_times_and_no_color_takes_the_colours_away(
    no_colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr(sys, "stderr", terminal)
    talking.main(["-q"], standalone_mode=False)
    yellow, reset = ("", "") if no_colour else ("\x1b[33m", "\x1b[0m")
    assert terminal.getvalue() == f"{yellow}Warning:{reset} something is odd\n"


def test_quiet_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    talking.main(["-q"], standalone_mode=False)
    assert "images" not in terminal.getvalue()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_calls_headstart(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_HEADSTART_COMPLETE={shell}_complete" in result.stdout


def test_commands_and_options_are_completed() -> None:
    def completed(words: str, place: int) -> str:
        asked = {"_HEADSTART_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        return CliRunner().invoke(main, [], env=asked, prog_name="headstart").stdout

    assert completed("headstart ext", 1) == "plain,extract\n"
    assert "plain,--batch-size\n" in completed("headstart extract --ba", 2)


# --- tables

ROWS = [("cat", "1,000"), ("a rather long name", "2")]


def test_in_a_pipe_a_table_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("class", "images"), ROWS, right={1})
    assert capsys.readouterr().out == (
        "class               images\n"
        "cat                  1,000\n"
        "a rather long name       2\n"
    )  # fmt: skip


def test_on_a_terminal_a_table_fits_its_width_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    console.show_table(("class", "images"), ROWS, right={1})
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 20 + len("\x1b[1m\x1b[0m") * 6
    assert all(word in terminal.getvalue() for word in ("rather", "1,000"))


def test_a_label_with_markup_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    console.show_table(("class",), [("[bold]cat[/bold]",)], right=())
    assert "[bold]cat[/bold]" in terminal.getvalue()


def test_what_libraries_write_past_python_is_dropped_and_what_is_told_comes_through() -> None:
    program = """
import logging, os, sys
from stages import console, process
handler = console._Handler()
console.LOGGER.addHandler(handler)
with process.only_ours():
    os.write(2, b"a converter's noise")
    console.warn("told")
    console.LOGGER.warning("logged")
os.write(2, b"after\\n")
console.LOGGER.warning("logged after")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = [re.sub(r"^\d{4}-\d\d-\d\d [\d:]{8} (Warning: )?", "", line) for line in ran.stderr.splitlines()]
    assert lines == ["told", "logged", "after", "logged after"]


def test_advice_to_programmers_is_kept_from_the_user_and_nothing_else_and_only_while_a_command_runs() -> None:
    log = logging.getLogger("tensorflow")
    many, old, news = (
        logging.LogRecord("tensorflow", logging.WARNING, "", 0, text, None, None)
        for text in (
            "5 out of the last 5 calls to f triggered tf.function retracing.",
            "From tf2onnx: f is deprecated.\nInstructions for updating:\nUse g.",
            "the disk is full",
        )
    )
    seen = []

    @click.command(cls=Stage)
    def command() -> None:
        seen.extend(bool(log.filter(record)) for record in (many, old, news))

    assert CliRunner().invoke(command).exit_code == 0
    assert seen == [False, False, True]
    assert log.filter(many)


NAME = "a\x1b]0;title\x07\u202eb"
SHOWN = r"a\x1b]0;title\x07\u202eb"


def test_a_name_cannot_act_on_a_terminal_wherever_it_is_printed() -> None:
    @click.command(cls=Stage)
    @click.argument("how")
    def naming(how: str) -> None:
        console.warn(NAME)
        console.tell(NAME)
        LOGGER.warning(NAME)
        console.say(NAME)
        console.show_table(["class"], [[NAME]], right=())
        kinds = {"ours": InputError, "system": FileNotFoundError, "click": click.ClickException}
        raise kinds[how](NAME) if how != "system" else FileNotFoundError(2, "nothing", NAME)

    for how in ("ours", "system", "click"):
        result = CliRunner().invoke(naming, [how])
        assert result.exit_code == 1
        assert (result.stdout.count(SHOWN), result.stderr.count(SHOWN)) == (2, 4)
    result = CliRunner().invoke(naming, [f"--{NAME}"])
    assert result.exit_code == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(result.output)


def test_no_command_prints_past_what_makes_names_harmless() -> None:
    for path in (ROOT / "stages").rglob("*.py"):
        if path.stem not in ("console", "process", "completion"):  # completion prints what click made, for a shell
            assert not re.search(r"click\.s?echo\(|\bprint\(", path.read_text()), path


def test_a_class_that_the_terminal_s_encoding_lacks_ends_no_run() -> None:
    program = (
        "import click; from stages import console\n"
        "@click.command(cls=console.Stage)\n"
        "def told():\n"
        "    console.warn('猫'); console.say('猫'); console.show_table(['猫'], [['猫']], right=())\n"
        "told()"
    )
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(rb"\u732b") == 3
    assert ran.stderr.count(rb"\u732b") == 1
