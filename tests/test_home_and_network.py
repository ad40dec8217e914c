"""No command writes below the home folder or reaches for a network, whatever the libraries in it would like.

Every command runs under strace, which sees what children do, too. So the next dependency that calls its maker is seen,
and the next import that costs everybody seconds.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from stages.__main__ import COMMANDS
from tests import ROOT
from tests.fakes import write_classes

NO_STRACE = "no strace on this machine, which sees what a process opens; on Debian and Ubuntu, apt-get install strace"
WRITERS = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat"
)
LOOPBACK = ("127.0.0.1", "::1")
BASE = ("--size", "32")
DATA = ("photos", "manifest.csv")
FEW = ("--resamples", "100")
IN_ORDER: tuple[tuple[str, ...], ...] = (
    ("digits", "digits"),
    ("prepare", *DATA),
    ("backbones",),
    ("probe", *DATA, "cut.json", *BASE, "--sample", "24"),
    ("extract", *DATA, "features.h5", *BASE),
    ("extract", *DATA, "dask.h5", *BASE, "--executor", "dask", "--workers", "1", "--cache", "another"),
    ("audit", *DATA, "features.h5", "audit"),
    ("train", "manifest.csv", "features.h5", "heads/logistic"),
    ("train", "manifest.csv", "features.h5", "heads/ridge", "--head", "ridge"),
    ("growth", "manifest.csv", "features.h5", "growth", "--parts", "3", "--seeds", "2"),
    ("finetune", *DATA, "features.h5", "heads/logistic", "model", "--epochs", "1"),
    ("evaluate", *DATA, "features.h5", "heads/logistic", "evaluation/logistic", *FEW),
    ("evaluate", *DATA, "features.h5", "heads/ridge", "evaluation/ridge", *FEW),
    ("compare", "evaluation", "comparison"),
    (
        "export",
        "model",
        "export",
        "--format",
        "all",
        "--images",
        "photos",
        "--manifest",
        "manifest.csv",
        "--sample",
        "2",
    ),
    ("report", *DATA, "features.h5", "evaluation", "report.html"),
    ("results", "evaluation/logistic"),
    ("predict", "heads/logistic", "photos/dark", "--explain", "heat"),
    *(
        ("predict", f"export/{name}", "photos/dark")
        for name in ("model.onnx", "saved_model", "model.tflite", "model.xml")
    ),
    ("recipe", "--list"),
    ("cache", "verify"),
    ("doctor",),
    ("completion", "bash"),
)
NEED_TENSORFLOW = ("finetune", "export model", "predict export/saved_model", "predict export/model.tflite")
SNIPPETS = ("onnx", "openvino")


def test_no_command_writes_below_the_home_folder_or_opens_a_socket_to_elsewhere(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip(NO_STRACE)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    write_classes(work / "photos", {"dark": 16, "bright": 16, "grey": 16})
    environment = _environment(home)
    assert {command for command, *_ in IN_ORDER} | {"serve"} == set(COMMANDS)
    found: dict[str, list[str]] = {}
    for number, command in enumerate(IN_ORDER):
        here = ROOT if command[0] == "recipe" else work
        traced = _traced(tmp_path / f"{number}.trace", ["-m", "stages", *command])
        ran = subprocess.run(traced, cwd=here, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        found[" ".join(command)] = _strangers(tmp_path / f"{number}.trace", home, local="dask" in command)
    for name in SNIPPETS:
        code = re.search(rf"\n{name}:\n\n```python\n(.*?)```", (work / "export/MODEL_CARD.md").read_text(), re.DOTALL)
        assert code
        shutil.copy(next((work / "photos/dark").iterdir()), work / "export/photo.jpg")
        traced = _traced(tmp_path / f"{name}.trace", ["-c", code[1]])
        subprocess.run(traced, cwd=work / "export", env=environment, check=True, capture_output=True)
        found[f"the card's lines for {name}"] = _strangers(tmp_path / f"{name}.trace", home, local=False)
    _serve(tmp_path / "serve.trace", work, environment)
    found["serve"] = _strangers(tmp_path / "serve.trace", home, local=True)
    assert {name: calls for name, calls in found.items() if calls} == {}
    loaders = {
        log.stem for log in tmp_path.glob("*.trace") if "/tensorflow/__init__." in log.read_text(errors="replace")
    }
    assert {name for name in loaders if not name.isdigit()} == set()
    loaders = {" ".join(IN_ORDER[int(number)]) for number in loaders}
    assert {name for name in loaders if not name.startswith(NEED_TENSORFLOW)} == set()
    assert list(home.rglob("*")) == []


def _environment(home: Path) -> dict[str, str]:
    """Return this process's variables as those of a user who has set none, with a home of their own."""
    named = ("XDG_", "KERAS_", "MPL", "ORT_", "DASK_", "HEADSTART_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"HOME": str(home), "PATH": paths, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _traced(log: Path, arguments: Sequence[str]) -> list[str]:
    calls = f"trace={WRITERS},socket,connect,bind,sendto"
    return [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "400",
        "-o",
        str(log),
        "-e",
        calls,
        sys.executable,
        *arguments,
    ]


def _strangers(log: Path, home: Path, *, local: bool) -> list[str]:
    """Return the calls that write below a home folder or are made to a network, but to this machine if `local`."""
    homes = (f'"{home}/', f'"{pwd.getpwuid(os.getuid()).pw_dir}/.')
    found = []
    for line in log.read_text(errors="replace").splitlines():
        reads = "open" in line and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)
        ours = local and (" socket(" in line or any(f'"{one}"' in line for one in LOOPBACK))
        if (not reads and any(place in line for place in homes)) or ("AF_INET" in line and not ours):
            found.append(line)
    return found


def _serve(log: Path, work: Path, environment: dict[str, str]) -> None:
    """Start `serve` on a free port, ask it for its page, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = _traced(log, ["-m", "stages", "serve", "heads/logistic", "--port", str(port)])
    # strace keeps a signal to itself: it goes to all of a group.
    with subprocess.Popen(
        command, cwd=work, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
                    break
                except OSError:
                    assert running.poll() is None, running.stderr and running.stderr.read()
                    time.sleep(0.1)
            os.killpg(running.pid, signal.SIGINT)
            running.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
