"""Install the packages of a lock file into this environment, each by its hash: with uv, else with pip.

    .venv/bin/python .ci/install.py requirements.lock

uv is in the lock too: pip installs it first. It reads nothing of pip's configuration, where a mirror or a folder of
packages may stand, so it is handed that. Where it still fails, pip installs.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV = Path(sys.executable).with_name("uv")
SECTIONS = ("global", "install", ":env:")  # the later ones have the last word
HANDED = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def handed(configuration: str) -> dict[str, str]:
    """Return what ``pip config list`` prints as variables for uv."""
    lines = re.findall(r"^([^.=]+)\.([^=]+)=(.+)$", configuration, re.MULTILINE)
    options = {key: str(ast.literal_eval(value)) for of in SECTIONS for section, key, value in lines if section == of}
    found = {name: " ".join(options[key].split()) for key, name in HANDED.items() if key in options}
    if "UV_FIND_LINKS" in found:
        found["UV_FIND_LINKS"] = found["UV_FIND_LINKS"].replace(" ", ",")
    # As pip does, look into every index: what is installed is known by its hash.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **found}


def install(lock: Path) -> int:
    """Install and return the exit status."""
    pinned = re.search(r"^uv==.*(?:\n {4}--hash.*)+", lock.read_text(encoding="utf-8"), re.MULTILINE)
    locked = ["--require-hashes", "--requirement"]
    if pinned:
        with tempfile.TemporaryDirectory() as folder:
            alone = Path(folder) / "uv.lock"
            alone.write_text(pinned[0] + "\n", encoding="utf-8")
            _run([*PIP, "install", "-qq", *locked, str(alone)])
        told = _run([*PIP, "config", "list"], capture_output=True, text=True, errors="replace").stdout
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        command = [str(UV), "pip", "install", "--python", sys.executable, *quiet, *locked, str(lock)]
        try:
            if not _run(command, env={**handed(told), **os.environ}).returncode:
                return 0
        except OSError as error:
            print(error, file=sys.stderr)
        print("uv could not install the packages; pip does.", file=sys.stderr)
    return _run([*PIP, "install", "-qq", *locked, str(lock)]).returncode


def _run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=False, **options)


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
