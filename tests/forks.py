"""Commands as forks of one process that has imported what they need: imports take most of a short command's time."""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests import ROOT

# What each command calls, and what both load as they run.
MAINS = {"headstart": "stages.__main__", "dvc": "dvc.cli"}
LOADED = (
    *("dvc.cli.parser", "dvc.repo", "dvc.repo.experiments", "dvc.repo.reproduce", "dvc.stage.run", "dvc.output"),
    *("dvc_data.hashfile.db.local", "dvc_render", "matplotlib.figure", "matplotlib.backends.backend_agg", "openvino"),
    *("scipy.optimize", "scipy.stats", "sklearn.linear_model", "sklearn.model_selection"),
)
NOTHING: Mapping[Path, str] = {}
# Hand arguments, folder, variables and streams over, and end as the fork does. A shell starts it, as the interpreter's
# path may have a space.
SHIM = """#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    told = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\n"
    server.sendall(told[socket.send_fds(server, [told], [0, 1, 2]):])
    sys.exit(server.recv(1)[0])
"""
# As `python` beside the commands, where they find it, it is what they call as this Python: DVC is a fork there, too.
PYTHON = f"""#!/bin/sh
test "$1 $2" = "-m dvc" && shift 2 && exec "${{0%/*}}/dvc" "$@"
exec '{sys.executable}' "$@"
"""


@contextlib.contextmanager
def forking(
    folder: Path, environment: dict[str, str], *, tracer: Sequence[str] = (), more: Mapping[Path, str] = NOTHING
) -> Iterator[None]:
    """Put the commands into a folder while the process that they are forked off runs in such an environment.

    It runs under another program, if one is given. The commands of a folder in `more` find a module imported, too.
    """
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most a hundred characters
        folders = {folder: "pipeline", **more}
        paths = {f"{short}/{place}": module for place, module in enumerate(folders.values())}
        command = [*tracer, sys.executable, "-m", "tests.forks", json.dumps(paths)]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True
        ) as server:
            assert server.stdout
            for each, path in zip(folders, paths, strict=True):
                assert server.stdout.readline() == b"ready\n"
                for name in MAINS:
                    (each / name).write_text(SHIM.format(python=sys.executable, path=path))
                    (each / name).chmod(0o755)
            try:
                yield
            finally:
                os.killpg(server.pid, signal.SIGTERM)


def serve(paths: dict[str, str]) -> None:
    """Import all modules; run what each client asks for in a fork of its own, and a server with more imported, too."""
    for package in ("pipeline", "stages"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            importlib.import_module(module.name)
    for name in LOADED:
        importlib.import_module(name)
    for path, module_name in paths.items():
        importlib.import_module(module_name)
        gc.collect()
        gc.freeze()
        if not os.fork():
            _serve(path)
    signal.pause()


def _serve(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.write(1, b"ready\n")
        while True:
            client, _ = server.accept()
            if not os.fork():
                break
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    told, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while not told.endswith(b"\n"):
        told += client.recv(1 << 16)
    if child := os.fork():
        client.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256]))
        os._exit(0)
    client.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    vars(sys.modules["__main__"]).update(__spec__=None, __package__=None)  # by which click would name the program
    sys.argv, folder, variables = json.loads(told)
    if (python := Path(sys.argv[0]).with_name("python")).is_file():
        sys.executable = str(python)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.exit(importlib.import_module(MAINS[Path(sys.argv[0]).name]).main())


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
