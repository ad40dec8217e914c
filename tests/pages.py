"""The README and the pages of docs/, their blocks of code, and a clone where these run."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import ROOT
from tests.fakes import write_classes, write_photo
from tests.project import Project, copy_of_the_project

README = ROOT / "README.md"
DOCS = ROOT / "docs"

# Here `make` takes the environment as it is, and does not run the tests that are running, nor build the site.
SHELL = """
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT  # what a block that fails has left running
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
TUTORIALS = [page for page in TEXTS if page.parent.name == "tutorials" and page.name != "index.md"]


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, each once, without the indentation of a list they may stand in.

    Those of the tutorials are cells of notebooks, which run as the site is built.
    """
    found = [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for page, text in TEXTS.items()
        if page not in TUTORIALS
        for indent, block in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    ]
    return list(dict.fromkeys(found))


def of_the_pipeline(block: str) -> bool:
    """Whether a block of shell runs the pipeline, or needs what it has written; the others have files of their own."""
    return re.search(r"^(make|dvc)\b|\bdata/", block, re.MULTILINE) is not None


def clone(folder: Path, count: int) -> Project:
    """A clone as its reader has it: so many photos of each class beside it, and the environment made."""
    project = copy_of_the_project(folder / "a clone")
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "clone")
    write_classes(project.root / "photos", {"cat": count, "dog": count})
    write_photo(project.root / "new" / "pet.jpg", 0)
    (project.root / ".venv").symlink_to(sys.prefix)
    (project.root / ".git/info/exclude").write_text(".venv\n")  # .gitignore names a folder, and this is none
    return project


def run_shell(project: Project, block: str, tracer: Sequence[str] = ()) -> str:
    """Run a block of shell, under another program if one is given; return what it printed."""
    run = subprocess.run(
        [*tracer, "bash", "-c", SHELL + block],
        cwd=project.root,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, f"{block}\n{run.stdout}"
    return run.stdout
