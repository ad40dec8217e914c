"""What the README and the pages of docs/ say is so: their commands run, their Python runs, the tree is the tree."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import headstart
from stages.__main__ import COMMANDS
from tests import ROOT
from tests.fakes import write_classes, write_photo
from tests.test_end_to_end import Project, copy_of_the_project, tracked

README = ROOT / "README.md"
DOCS = ROOT / "docs"

# Here `make` takes the environment as it is, and does not run the tests that are running, nor build the site.
SHELL = """
set -euo pipefail
make() {
    case "$1" in test|docs) command make --dry-run "$1";; *) command make --old-file=.venv/ready "$@";; esac
}
"""


def pages() -> list[Path]:
    """The README, then the pages of the site in the order of its contents, then the decisions."""

    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(inner)

    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    return [README, *(DOCS / name for name in listed), *sorted(DOCS.glob("adr/*.md"))]


TEXTS = {page: page.read_text(encoding="utf-8") for page in pages()}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, each once, without the indentation of a list they may stand in."""
    found = [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for text in TEXTS.values()
        for indent, block in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    ]
    return list(dict.fromkeys(found))


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
    """Every shell block, run in order in one folder; what each printed."""
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
    assert len(shell_ran) == len(blocks("sh")) > 20
    assert (project.root / "labels.csv").read_text().startswith("path,label,p_cat,p_dog,error\n")
    assert any(re.search(r"^logistic +\d+  [01]\.\d+ \[", text, re.MULTILINE) for text in shell_ran)


def test_every_python_block_runs(shell_ran: list[str], project: Project) -> None:
    printed = []
    for number, block in enumerate(blocks("python")):
        (project.root / f"block_{number}.py").write_text(block)
        printed.append(project.call(sys.executable, f"block_{number}.py"))
    assert re.search(r"accuracy +[01]\.\d+ .*new/pet\.jpg +(cat|dog) +[01]\.\d+", printed[0], re.DOTALL)
    assert len(printed) == len(
        {block for text in TEXTS.values() for block in re.findall(r"```python.*?```", text, re.S)}
    )


def test_no_block_is_of_a_language_that_is_not_looked_at() -> None:
    opened = [name for text in TEXTS.values() for name in re.findall(r"^ *```(\w*)$", text, re.MULTILINE)[::2]]
    assert set(opened) == {"sh", "python", "yaml", "text"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_that_shows_it(name: str) -> None:
    page = TEXTS[DOCS / "commands" / f"{name}.md"]
    assert page.startswith(f"# headstart {name}\n\n```sh\n")
    assert re.search(rf"headstart {name}[ \n)]", page.partition("```sh")[2].partition("```")[0])
    assert f"[{name}]({name}.md)" in TEXTS[DOCS / "commands" / "index.md"]


def test_every_room_has_a_page() -> None:
    pages = {
        name
        for page, text in TEXTS.items()
        if page.parent.name == "api"
        for name in re.findall(r"^::: (.*)", text, re.M)
    }
    no_page = {"api", "plots", "stats", "storage"}  # headstart's own page shows api
    rooms = {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")}
    assert pages == {"headstart"} | {f"pipeline.{room}" for room in rooms - no_page}


def test_all_that_a_python_user_imports_is_on_its_page() -> None:
    shown = re.search(r"members: \[(.*)\]", TEXTS[DOCS / "api" / "headstart.md"])
    assert shown is not None
    assert sorted(shown[1].split(", ")) == sorted(headstart.__all__)


def test_every_benchmark_has_its_figures_in_the_measurements() -> None:
    named = set(re.findall(r"benchmarks/(\w+\.py)", TEXTS[DOCS / "measurements.md"]))
    assert named == {path.name for path in ROOT.glob("benchmarks/*.py")}


def in_the_tree() -> list[str]:
    """Every path of the README's tree: names stand before a description, or fill the line; a folder's are indented."""
    (tree,) = [block for block in blocks("text") if block.startswith("pipeline/ ")]
    paths, folder = [], ""
    for line in tree.splitlines():
        names = re.split(r"  +", line.strip())[0].split()
        folder = folder if line.startswith(" ") else names[0]
        paths += [f"{folder}{name}" if line.startswith(" ") else name for name in names]
    return paths


def test_what_the_tree_names_is_there() -> None:
    known = tracked()
    top = {name.split("/")[0] for name in known} | {"data"}
    for path in in_the_tree():
        assert path.rstrip("/") in top or (ROOT / path).exists(), path
        assert path.endswith("/") == (ROOT / path).is_dir(), path


def test_what_is_there_is_in_the_tree() -> None:
    known = tracked()
    top = {name.split("/")[0] + "/" * ("/" in name) for name in known if not name.startswith(".")}
    rooms = {re.sub(r"^(pipeline/\w+(?:\.py|/)).*", r"\1", name) for name in known if name.startswith("pipeline/")}
    assert top | rooms - {"pipeline/__init__.py"} <= set(in_the_tree())


def anchors(text: str) -> set[str]:
    """What a link can point at in a page: its headings, or the names they are given."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S), re.M)
    given = {name for title in titles for name in re.findall(r"\{ #(\S+) \}", title)}
    return given | {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(TEXTS[found]), target


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_a_page_names_are_there(page: Path) -> None:
    for named in re.findall(r"`((?:pipeline|stages|tests|benchmarks|recipes|docs)/[\w./-]+)", TEXTS[page]):
        assert (ROOT / named.rstrip(".")).exists(), named


def test_the_readme_is_short() -> None:
    assert len(TEXTS[README].splitlines()) <= 200


def test_the_picture_is_small() -> None:
    assert sum(path.stat().st_size for path in DOCS.glob("*.png")) < 200_000


def test_make_knows_its_targets() -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert {"run", "test", "docs"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
