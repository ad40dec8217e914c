"""What a process and its children open, write and connect to, as strace sees it."""

import os
import pwd
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import ROOT

STRACE = shutil.which("strace")
NO_STRACE = "no strace on this machine, which sees what a process opens; on Debian and Ubuntu, apt-get install strace"
WRITERS = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat"
)
LOOPBACK = ("127.0.0.1", "::1")


def environment_of_a_new_user(home: Path) -> dict[str, str]:
    """Return this process's variables as those of a user who has set none, with a home of their own."""
    named = ("XDG_", "KERAS_", "MPL", "ORT_", "DASK_", "HEADSTART_", "GIT_", "DVC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"HOME": str(home), "PATH": paths, "PYTHONPATH": str(ROOT)}


def traced(log: Path, command: Sequence[str]) -> list[str]:
    """Return a command that runs another, and leaves in `log` what that and its children wrote and connected to."""
    calls = f"trace={WRITERS},execve,socket,connect,bind,sendto"
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "400", "-o", str(log), "-e", calls, *command]


def strangers(log: str, home: Path, *, local: bool) -> list[str]:
    """Return the calls that write below a home folder or are made to a network, but to this machine if `local`."""
    homes = (f'"{home}/', f'"{pwd.getpwuid(os.getuid()).pw_dir}/.')
    found = []
    for line in log.splitlines():
        reads = "execve(" in line or ("open" in line and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line))
        ours = local and (" socket(" in line or any(f'"{one}"' in line for one in LOOPBACK))
        if (not reads and any(place in line for place in homes)) or ("AF_INET" in line and not ours):
            found.append(line)
    return found


def commands(log: str) -> list[str]:
    """Return the commands of `headstart` in the order of their start."""
    started = re.findall(r'execve\("[^"]*/headstart", \["headstart", (.*)\], ', log)
    return [" ".join(re.findall(r'"([^"]*)"', arguments)) for arguments in started]


def loads_tensorflow(log: str) -> bool:
    """Whether one of the commands, or a child, loads TensorFlow."""
    return re.search(r"-packages/tensorflow/(__pycache__/)?__init__\.", log) is not None
