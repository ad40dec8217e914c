"""What the README and docs/ say is so: the commands of the pipeline run, links lead somewhere, the tree is the tree."""

import os
import re
from pathlib import Path

import pytest

import headstart
from stages.__main__ import COMMANDS
from tests import ROOT
from tests.pages import DOCS, README, TEXTS, blocks
from tests.project import tracked


def test_no_block_is_of_a_language_that_is_not_looked_at() -> None:
    opened = [name for text in TEXTS.values() for name in re.findall(r"^ *```(\w*)(?: \.noeval)?$", text, re.M)[::2]]
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
