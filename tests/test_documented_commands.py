"""The commands of the pages, one after the other in one folder, and their Python."""

import re
import sys

import pytest

from tests.pages import TEXTS, blocks, clone, of_the_pipeline, run_shell
from tests.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return clone(tmp_path_factory.mktemp("commands"), 40)


def test_every_shell_command_without_the_pipeline_runs(project: Project) -> None:
    chosen = [block for block in blocks("sh") if not of_the_pipeline(block)]
    for block in chosen:
        run_shell(project, block)
    assert len(chosen) > 15


def test_every_python_block_runs(project: Project) -> None:
    printed = []
    for number, block in enumerate(blocks("python")):
        (project.root / f"block_{number}.py").write_text(block)
        printed.append(project.call(sys.executable, f"block_{number}.py"))
    assert re.search(r"accuracy +[01]\.\d+ .*new/pet\.jpg +(cat|dog) +[01]\.\d+", printed[0], re.DOTALL)
    assert len(printed) == len(
        {block for text in TEXTS.values() for block in re.findall(r"```python.*?```", text, re.S)}
    )
