"""What the README says is so: its commands run, its Python runs, its tree is the tree."""

import os
import re
import subprocess
import sys

import pytest

from stages.__main__ import COMMANDS
from tests import ROOT
from tests.fakes import write_classes, write_photo
from tests.test_end_to_end import Project, copy_of_the_project, tracked

README = (ROOT / "README.md").read_text(encoding="utf-8")

# Here `make` takes the environment as it is, and does not run the tests that are running.
SHELL = """
set -euo pipefail
make() { if [ "$1" = test ]; then command make --dry-run test; else command make --old-file=.venv/ready "$@"; fi; }
"""


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of one language, without the indentation of a list they may stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone as its reader has it: photos beside it, params.yaml changed as the README says, the environment made."""
    project = copy_of_the_project(tmp_path_factory.mktemp("readme") / "a clone")
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "clone")
    write_classes(project.root / "photos", {"cat": 40, "dog": 40})
    write_photo(project.root / "new" / "pet.jpg", 0)
    (line,) = blocks("yaml")
    params = project.root / "params.yaml"
    key = line.partition(":")[0]
    changed, count = re.subn(rf"^{key}: .*\n", line, params.read_text(), flags=re.MULTILINE)
    assert count == 1
    params.write_text(changed)
    (project.root / ".venv").symlink_to(sys.prefix)
    return project


@pytest.fixture(scope="module")
def shell_ran(project: Project) -> list[str]:
    """Every shell block of the README, run in order; what each printed."""
    printed = []
    for block in blocks("sh"):
        run = subprocess.run(
            ["bash", "-c", SHELL + block],
            cwd=project.root,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}"
        printed.append(run.stdout)
    return printed


def test_every_shell_command_runs(shell_ran: list[str], project: Project) -> None:
    assert len(shell_ran) == len(blocks("sh")) > 10
    assert (project.root / "labels.csv").read_text().startswith("path,label,p_cat,p_dog,error\n")
    assert any(re.search(r"^logistic +\d+  [01]\.\d+ \[", text, re.MULTILINE) for text in shell_ran)


def test_every_python_block_runs(shell_ran: list[str], project: Project) -> None:
    printed = []
    for number, block in enumerate(blocks("python")):
        (project.root / f"block_{number}.py").write_text(block)
        printed.append(project.call(sys.executable, f"block_{number}.py"))
    assert re.search(r"^[01]\.\d+\nnew/pet\.jpg (cat|dog) \{'cat': ", printed[0], re.MULTILINE)
    assert len(printed) == len(blocks("python")) == README.count("```python")


def test_no_block_is_of_a_language_that_is_not_looked_at() -> None:
    opened = re.findall(r"^ *```(\w*)$", README, re.MULTILINE)[::2]
    assert set(opened) == {"sh", "python", "yaml", "text"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_that_shows_it(name: str) -> None:
    section = re.search(rf"^### headstart {name}\n(.*?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert f"headstart {name} " in section[1] or f"headstart {name}\n" in section[1]


def in_the_tree() -> list[str]:
    """Every path of the annotated tree; below a folder names are indented, and a description follows two spaces."""
    (tree,) = [block for block in blocks("text") if block.startswith("pipeline/ ")]
    paths, folder = [], ""
    for line in tree.splitlines():
        folder = folder if line.startswith(" ") else line.split()[0]
        several = re.split(r"  +", line.strip())
        names = several if all(name.isupper() or name.endswith(".md") for name in several) else several[:1]
        paths += [f"{folder}{name}" if line.startswith(" ") else name for name in names]
    return paths


def test_what_the_tree_names_is_there() -> None:
    known = tracked()
    top = {name.split("/")[0] for name in known} | {"data", "dvc.lock"}
    for path in in_the_tree():
        assert path.rstrip("/") in top or (ROOT / path).exists(), path
        assert path.endswith("/") == (ROOT / path).is_dir(), path


def test_what_is_there_is_in_the_tree() -> None:
    known = tracked()
    top = {name.split("/")[0] + "/" * ("/" in name) for name in known if not name.startswith(".")}
    modules = {re.sub(r"^(pipeline/\w+(?:\.py|/)).*", r"\1", name) for name in known if name.startswith("pipeline/")}
    assert top | modules - {"pipeline/__init__.py"} <= set(in_the_tree())


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", README, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target


def test_the_picture_is_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "docs").glob("*.png")) < 200_000


def test_make_knows_its_targets() -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert {"run", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
