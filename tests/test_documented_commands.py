"""The commands of the pages, one after the other in one folder, and their Python; strace watches, where there is one.

It sees what children do, too. So the next dependency that writes below the home folder or calls its maker is seen, and
the next import that costs everybody seconds.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.__main__ import COMMANDS
from tests import strace
from tests.forks import forking
from tests.pages import TEXTS, TUTORIALS, blocks, clone, of_the_pipeline, run_shell

# What exports answer with, each by its own runtime; the pages write two formats of them.
EXPORTED = "headstart export out/model out/rest --format keras,saved_model,tflite"
EXPORTS = ("out/export/model.onnx", "out/export/model.xml", "out/rest/saved_model", "out/rest/model.tflite")
SNIPPETS = ("onnx", "openvino")
# What does without TensorFlow, whose import costs seconds.
NO_TENSORFLOW = (
    r"digits|prepare|audit|growth|compare|results|cache|doctor|completion|recipe|train "
    r"|predict out/export/model\.(onnx|xml) "
)
# Blocks whose commands are forks of a process with TensorFlow, and those with real processes.
TENSORFLOW = r"^headstart (backbones [a-z]|probe|finetune|evaluate|export|run|report)|out/(model|tuned|rest)\b"
REAL = r"activate|^headstart (serve|init|completion|convert|digits)|--executor"


class Traced:
    """A clone whose commands run under strace, for a user without settings; what they should not do, by command.

    The commands are forks of a process that runs under strace, too, unless a block asks for real ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        self.project = clone(folder, 16)
        self.project.environment = strace.environment_of_a_new_user(self.home)
        self.commands: dict[str, bool] = {}
        self.found: dict[str, list[str]] = {}
        self.forks, self.of_tensorflow = folder / "forks", folder / "forks with TensorFlow"
        for each in (self.forks, self.of_tensorflow):
            each.mkdir()

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        log = self.folder / "forks.trace"
        tracer = strace.traced(log, []) if strace.STRACE else []
        log.touch()
        with (
            forking(self.forks, self.project.environment, tracer=tracer, more={self.of_tensorflow: "keras"}),
            log.open(errors="replace") as self.told,
        ):
            text = self.told.read()
            self.found["the imports of all"] = strace.strangers(text, self.home, local=False)
            assert strace.loads_tensorflow(text) or not strace.STRACE
            yield

    def shell(self, block: str) -> None:
        log = self.folder / f"{len(self.found)}.trace"
        environment = self.project.environment
        path, heavy = environment["PATH"], re.search(TENSORFLOW, block, re.MULTILINE)
        if not re.search(REAL, block, re.MULTILINE):
            environment["PATH"] = os.pathsep.join([str(self.of_tensorflow if heavy else self.forks), path])
        try:
            run_shell(self.project, block, strace.traced(log, []) if strace.STRACE else [])
        finally:
            environment["PATH"] = path
        self._read(block, log, local="headstart serve" in block or "dask" in block)

    def python(self, name: str, code: str, folder: Path) -> None:
        log = self.folder / f"{name}.trace"
        command = strace.traced(log, [sys.executable, "-c", code])
        subprocess.run(command, cwd=folder, env=self.project.environment, check=True, capture_output=True)
        self._read(f"the card's lines for {name}", log, local=False)

    def _read(self, name: str, log: Path, *, local: bool) -> None:
        text = (log.read_text(errors="replace") if strace.STRACE else "") + self.told.read()
        self.found[name] = strace.strangers(text, self.home, local=local)
        loads = strace.loads_tensorflow(text) or re.search(TENSORFLOW, name, re.MULTILINE) is not None
        self.commands |= dict.fromkeys(strace.commands(text), loads)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """The clone after every block of shell that does not need the pipeline."""
    traced = Traced(tmp_path_factory.mktemp("commands"))
    with traced.forking():
        for block in blocks("sh"):
            if not of_the_pipeline(block):
                traced.shell(block)
        yield traced


def test_every_shell_command_without_the_pipeline_runs(traced: Traced) -> None:
    assert len(traced.found) > 15


def test_no_command_writes_below_the_home_folder_or_opens_a_socket_to_elsewhere(traced: Traced) -> None:
    if not strace.STRACE:
        pytest.skip(strace.NO_STRACE)
    assert {command.split()[0] for command in traced.commands if not command.startswith("-")} == set(COMMANDS)
    out = traced.project.root / "out/export"
    for command in (EXPORTED, *(f"headstart predict {path} new" for path in EXPORTS)):
        traced.shell(command)
    shutil.copy(traced.project.root / "new/pet.jpg", out / "photo.jpg")
    for name in SNIPPETS:
        code = re.search(rf"\n{name}:\n\n```python\n(.*?)```", (out / "MODEL_CARD.md").read_text(), re.DOTALL)
        assert code
        traced.python(name, code[1], out)
    assert {name: calls for name, calls in traced.found.items() if calls} == {}
    assert [name for name, loads in traced.commands.items() if loads and re.match(NO_TENSORFLOW, name)] == []
    assert list(traced.home.rglob("*")) == []


def test_every_python_block_runs(traced: Traced) -> None:
    project = traced.project
    printed = []
    for number, block in enumerate(blocks("python")):
        (project.root / f"block_{number}.py").write_text(block)
        printed.append(project.call(sys.executable, f"block_{number}.py"))
    assert re.search(r"accuracy +[01]\.\d+ .*new/pet\.jpg +(cat|dog) +[01]\.\d+", printed[0], re.DOTALL)
    texts = [text for page, text in TEXTS.items() if page not in TUTORIALS]
    assert len(printed) == len({block for text in texts for block in re.findall(r"```python.*?```", text, re.S)})
