"""What `make` installs: by uv, told where pip would look, else by pip; always what the lock names, by its hash."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

RUN, ALL = ROOT / "requirements-run.lock", ROOT / "requirements.lock"
LOCK = "a==1 \\\n    --hash=sha256:00\nuv==1.2 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n    # via headstart\n"
# A path with a space in it cannot stand behind "#!": the shell reads the second line, and Python takes it for a string.
FAKE = """#!/bin/sh
'''exec' '{python}' "$0" "$@"
' '''
import os, sys
with open({log!r}, "a") as file:
    print({name!r}, os.environ.get("UV_DEFAULT_INDEX"), *sys.argv[1:], file=file)
    if "--requirement" in sys.argv and {name!r} == "pip":
        print(open(sys.argv[-1]).read(), file=file)
if sys.argv[-1] == "list":
    print("global.index-url='file:///a mirror'".replace(" ", ""))
sys.exit({status})
"""


@pytest.fixture
def program() -> Any:
    described = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert described and described.loader
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("told", "variables"),
    [
        ("", {}),
        ("global.index-url='file:///one'\n", {"UV_DEFAULT_INDEX": "file:///one"}),
        (":env:.index-url='file:///two'\nglobal.index-url='file:///one'\n", {"UV_DEFAULT_INDEX": "file:///two"}),
        ("install.index-url='file:///two'\nglobal.index-url='file:///one'\n", {"UV_DEFAULT_INDEX": "file:///two"}),
        ("download.index-url='file:///two'\nglobal.timeout='9'\n", {}),
        (
            "global.extra-index-url='\\nfile:///b\\nfile:///c'\nglobal.find-links='\\n/d\\n/e'\nglobal.cert='/f'\n",
            {"UV_INDEX": "file:///b file:///c", "UV_FIND_LINKS": "/d,/e", "SSL_CERT_FILE": "/f"},
        ),
    ],
)
def test_uv_is_handed_what_pip_is_configured_with(program: Any, told: str, variables: dict[str, str]) -> None:
    assert program.handed(told) == {"UV_INDEX_STRATEGY": "unsafe-best-match"} | variables


@pytest.mark.parametrize("uv", ["installs", "fails", "is not there"])
def test_pip_installs_where_uv_does_not(program: Any, uv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, lock = tmp_path / "log", tmp_path / "all packages.lock"
    lock.write_text(LOCK)
    for name, status in (("pip", 0), ("uv", 0 if uv == "installs" else 2)):
        (tmp_path / name).write_text(FAKE.format(python=sys.executable, log=str(log), name=name, status=status))
        (tmp_path / name).chmod(0o755)
    if uv == "is not there":
        (tmp_path / "uv").unlink()
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.setattr(program, "PIP", [str(tmp_path / "pip")])
    monkeypatch.setattr(program, "UV", tmp_path / "uv")
    assert program.install(lock) == 0
    first, *done = re.split(r"^(?=pip|uv)(?!uv==)", log.read_text(), flags=re.MULTILINE)[1:]
    assert "--require-hashes" in first and first.endswith(
        "uv==1.2 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n\n"
    )
    by_uv = f"uv file:///amirror pip install --python {sys.executable} "
    assert [one.partition("--")[0] for one in done if one.startswith("uv")] == (
        [] if uv == "is not there" else [by_uv.partition("--")[0]]
    )
    assert (done[-1].startswith("pip") and str(lock) in done[-1]) == (uv != "installs")


def test_what_make_run_installs_is_part_of_what_make_test_does() -> None:
    run, everything = (set(_pinned(lock)) for lock in (RUN, ALL))
    assert run < everything
    assert {"uv", "hatchling", "openvino"} <= {pin.partition("==")[0] for pin in run}
    assert "pytest" not in {pin.partition("==")[0] for pin in run}


def _pinned(lock: Path) -> list[str]:
    """Each package with version and hashes."""
    return re.findall(r"^\S+==.*(?:\n {4}--hash.*)+", lock.read_text(), re.MULTILINE)
