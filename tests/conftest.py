"""What holds for all tests."""

import logging
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.backbones.table import BACKBONES
from pipeline.types import Progress
from tests import NO_CHROMIUM, NO_NPM

# What a shell runs in the background ignores Ctrl-C, under nohup SIGHUP too, and so would every command of a test.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="module")
def table_of_backbones() -> Iterator[None]:
    """A base that a module adds to the table is gone when its tests are over."""
    before = dict(BACKBONES)
    yield
    BACKBONES.clear()  # type: ignore[attr-defined]
    BACKBONES.update(before)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def library_that_speaks() -> None:
    """What a command of another test, or of a shared fixture, set of the library's log does not count here."""
    logging.getLogger("pipeline").setLevel(logging.NOTSET)


def decode_here(patch: pytest.MonkeyPatch) -> None:
    """Let photos be decoded in this process, as others take a second to start."""

    def each(function: Any, items: Sequence[Any], *, workers: int | None, progress: Progress) -> list[Any]:
        progress(len(items), len(items))
        return [function(item) for item in items]

    patch.setattr("pipeline.photos.decode_pool.each", each)


@pytest.fixture
def decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `decode_here`, for a test."""
    decode_here(monkeypatch)


@pytest.fixture
def drawn() -> None:
    """For a test that wants its pictures where others of its module are `undrawn`."""


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures have one pixel, as to lay one out takes longer than all the rest; who wants them asks for `drawn`."""
    if "drawn" not in request.fixturenames:

        def print_png(canvas: Any, path: Path, **_: Any) -> None:
            Image.new("L", (1, 1)).save(path, "PNG")

        monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", print_png)


# Slow files go first, the slowest before the others, so that no process is left with one of them when the rest is done.
SLOW = (
    "test_documented_commands",
    "test_end_to_end",
    "test_finetune",
    "test_table",
    "test_site",
    "test_export",
    "test_recipe",
    "test_engine",
    "test_weights",
    "test_executor",
    "test_faults",
    "test_page",
    "test_terminal",
    "test_modules",
    "test_audit",
    "test_plots",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        return SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW)

    items.sort(key=turn)


WANTED = {
    NO_CHROMIUM: "On Debian and Ubuntu, `apt-get install chromium` brings it; elsewhere, any Chromium or Chrome on the "
    "path will do.",
    NO_NPM: "Node.js brings npm, which fetches it where there is a network.",
}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the very end what was left out for want of a browser or of what runs in it, and how to get one."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for reason, remedy in WANTED.items():
        if count := sum(reason in told for told in skipped):
            terminalreporter.write_line(
                f"{count} tests of pages in a browser were skipped: {reason}. {remedy}", yellow=True
            )
