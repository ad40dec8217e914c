"""What the tests say when they are done."""

import os
import re
import subprocess
import sys

from tests import NO_CHROMIUM, ROOT


def test_the_last_lines_count_what_was_skipped_for_want_of_a_browser() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/report/test_page.py"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": ""}, capture_output=True, text=True)
    last = " ".join(run.stdout.splitlines()[-2:])
    assert re.search(rf"[1-9]\d* tests of pages in a browser were skipped: {NO_CHROMIUM}\. .*apt-get install", last), (
        last
    )
