"""What the tests leave out, and what they say when they are done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.plots import style
from tests import NO_CHROMIUM, ROOT


def size_of_a_picture(path: Path) -> tuple[int, int]:
    with style.drawing(path, width=3, height=2):
        pass
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.usefixtures("undrawn")
def test_a_picture_that_nobody_looks_at_has_one_pixel(tmp_path: Path) -> None:
    assert size_of_a_picture(tmp_path / "picture.png") == (1, 1)


@pytest.mark.usefixtures("undrawn")
def test_who_asks_for_a_picture_gets_it(tmp_path: Path, drawn: None) -> None:
    assert size_of_a_picture(tmp_path / "picture.png") == (3 * style.DPI, 2 * style.DPI)


def test_the_last_lines_count_what_was_skipped_for_want_of_a_browser() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/report/test_page.py"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": ""}, capture_output=True, text=True)
    last = " ".join(run.stdout.splitlines()[-2:])
    assert re.search(rf"[1-9]\d* tests of pages in a browser were skipped: {NO_CHROMIUM}\. .*apt-get install", last), (
        last
    )
