import io
import sys

import pytest

from stages.console import show_table

ROWS = [("cat", "1,000"), ("a rather long name", "2")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_a_table_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("class", "images"), ROWS, right={1})
    assert capsys.readouterr().out == (
        "class               images\n"
        "cat                  1,000\n"
        "a rather long name       2\n"
    )  # fmt: skip


def test_on_a_terminal_a_table_fits_its_width_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    show_table(("class", "images"), ROWS, right={1})
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 20 + len("\x1b[1m\x1b[0m") * 6
    assert all(word in terminal.getvalue() for word in ("rather", "1,000"))


def test_a_label_with_markup_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show_table(("class",), [("[bold]cat[/bold]",)], right=())
    assert "[bold]cat[/bold]" in terminal.getvalue()
