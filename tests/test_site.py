"""The site of docs/ builds with strict links, and its pages load nothing from elsewhere."""

import html as entities
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click import Context, Group

from stages.__main__ import COMMANDS, main
from tests import ROOT
from tests.pages import TEXTS, TUTORIALS

TOLD = re.compile(r"tutorials/([\w-]+)\.md, cell \d+: .*")
# What each tutorial shows, in this order. Of what an earlier one computed, nothing is computed again.
PROMISES = {
    "is-it-good": [
        r"val accuracy [01]\.\d+",
        r"accuracy [01]\.\d+ \[[01]\.\d+, [01]\.\d+\]",
        r"centroid(:| \().* points, p = ",
        r"same pixels 20 .*leakage [1-9]\d* .*label issues \d+",
    ],
    "mobilenetv2": [r"views\.h5 .*engine [1-9]\d+ 300 ", r"features\.h5 .*engine 0 300 ", r"40 passes over .* 4 views"],
    "regularisation": [r"engine 0 300 0 ", r"heads/wide, 10 epochs", r"logistic.* points, p = "],
    "ten-minutes": [
        r"300 photos, 0 quarantined",
        r"engine 300 0 ",
        r"test photos, \d+ mistakes?: ",
        r"5 photos .*new/\d+\.png [13589] [01]\.\d+ .*300 pictures: headstart-out/report\.html",
    ],
    "vgg16": [r"engine 300 0 .*engine 0 300 0 ", r"heads/dense, 10 epochs", r"test photos", r" points, p = "],
    "which-layer": [r"squared error [01]\.\d+", r"(chosen|top) is .* points, p = "],
    "xception": [
        r"heads/dense, \d+ epochs",
        r"models/dense, 4 epochs, epoch [1-4] is kept ",
        r"finetuned .* points, p = ",
    ],
}
LOADING = {"src", "srcset", "href", "data", "poster", "action", "xlink:href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "mkdocs_click", "mkdocstrings_handlers.python", "material"):
        pytest.importorskip(name, reason="the packages of the extra `docs` are not installed")
    folder = tmp_path_factory.mktemp("site")
    run = built(ROOT, folder)
    if not TOLD.search(run.stderr):  # a notebook that fails fails the test that has its name
        assert run.returncode == 0, run.stderr
    (folder / "told").write_text(run.stderr)
    return folder


def built(project: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.fixture(scope="module")
def html(site: Path) -> dict[str, str]:
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


class Loads(HTMLParser):
    """What a page loads when it is opened: the addresses of all but links to click on."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.found += [value for name, value in attrs if name in LOADING and value is not None]
        self.found += re.findall(r"url\(([^)]+)\)", dict(attrs).get("style") or "")


def elsewhere(addresses: list[str]) -> list[str]:
    """The addresses that do not stay in the folder of the site."""
    return [address for address in addresses if re.match(r"[\"']?(?!data:)([a-z]+:|//)", address.strip(), re.I)]


def test_no_page_loads_anything_from_elsewhere(html: dict[str, str]) -> None:
    assert len(html) > len(COMMANDS) + 20
    for name, page in html.items():
        loads = Loads(page).found
        assert any(address.endswith(".css") for address in loads)
        assert not elsewhere(loads), name


def test_no_style_loads_anything_from_elsewhere(site: Path, html: dict[str, str]) -> None:
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    styles += [style for page in html.values() for style in re.findall(r"<style>(.*?)</style>", page, re.DOTALL)]
    assert styles
    for style in styles:
        assert "@import" not in style
        assert not elsewhere(re.findall(r"url\(([^)]+)\)", style))


def test_an_address_elsewhere_is_told() -> None:
    page = '<link href="//a/b.css"><img src="c.png"><a href="https://d"></a><script src="https://e"></script>'
    assert elsewhere(Loads(page).found) == ["//a/b.css", "https://e"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_lists_its_options_as_the_command_has_them(name: str, html: dict[str, str]) -> None:
    page = html[f"commands/{name}.html"]
    command = main.get_command(Context(main), name)
    assert command is not None
    shown = set(re.findall(r"--[A-Za-z0-9-]+", " ".join(re.findall(r"<td><code>-.*?</td>", page))))
    for each in (command, *(command.commands.values() if isinstance(command, Group) else ())):
        names = {name for option in each.params for name in (*option.opts, *option.secondary_opts)}
        assert {name for name in names if name.startswith("--")} <= shown
    assert not re.search(r"Sentinel|&lt;function|\[default:", page)


def test_the_pages_of_the_library_hold_its_docstrings(html: dict[str, str]) -> None:
    assert 'id="pipeline.photos.prepare.prepare"' in html["api/photos.html"]
    assert 'id="pipeline.features.spec' in html["api/features.html"]


def test_the_decisions_are_in_the_contents(html: dict[str, str]) -> None:
    for path in ROOT.glob("docs/adr/*.md"):
        assert f'href="adr/{path.stem}.html"' in html["index.html"]


def test_no_page_knows_the_machine_that_built_it(html: dict[str, str]) -> None:
    assert not [name for name, page in html.items() if str(ROOT) in page]


def visible(page: str) -> str:
    """The text of a page, in one line."""
    return re.sub(r"\s+", " ", entities.unescape(re.sub(r"<[^>]+>", " ", page.partition("<article")[2])))


def test_every_tutorial_promises_something() -> None:
    assert sorted(PROMISES) == sorted(page.stem for page in TUTORIALS)


@pytest.mark.parametrize("name", PROMISES)
def test_a_tutorial_runs_and_shows_what_it_promises(name: str, site: Path, html: dict[str, str]) -> None:
    failed = [found[0] for found in TOLD.finditer((site / "told").read_text()) if found[1] == name]
    assert failed == []
    page = html[f"tutorials/{name}.html"]
    text = visible(page)
    assert re.search(".*".join(PROMISES[name]), text), text
    assert "How this page was made" in text
    pictures = re.findall(r'<img alt="[^"]+" src="([^"]+)"', page)
    assert pictures
    assert all((site / "tutorials" / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: str(page.stem))
def test_a_tutorial_is_downloaded_as_its_reader_will_run_it(page: Path, site: Path) -> None:
    found = json.loads((site / "tutorials" / f"{page.stem}.ipynb").read_text(encoding="utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    cells = ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]
    assert cells == [cell.strip() for cell in re.findall(r"^```python\n(.*?)^```$", TEXTS[page], re.M | re.S)]
    assert 6 <= len(cells) <= 15
    assert 'PHOTOS = "photos"' in cells[0]
    assert not any(cell.get("outputs") for cell in found["cells"])
    prose = "".join("".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "markdown")
    assert prose.startswith("# ")
    assert "offline" not in prose.partition("\n")[0]
    assert prose.index("```python\n") < 700  # what one would write in Keras
    assert not re.search(r"\]\([\w-]+\.md\)", prose)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: str(page.stem))
def test_the_code_of_a_tutorial_is_linted(page: Path) -> None:
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", TEXTS[page], re.M | re.S))
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "B0,E4,E7,E9,F,N,UP",
        "--ignore",
        "B018",
    ]
    run = subprocess.run([*command, "-"], input=code, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_a_notebook_shows_each_value_below_its_cell_and_a_broken_one_is_named(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the packages of the extra `docs` are not installed")
    front = "---\noffline:\n  WHERE: here\n---\n# Broken\n\n```python .noeval\nnever()\n```\n\n"
    cells = ['WHERE = "elsewhere"', 'print("first")\nWHERE', "'third'\nmissing", "'never'"]
    (tmp_path / "docs" / "tutorials").mkdir(parents=True)
    (tmp_path / "docs" / "index.md").write_text("# Index\n")
    page = front + "\n".join(f"```python\n{cell}\n```\n\nafter {place}\n" for place, cell in enumerate(cells))
    (tmp_path / "docs" / "tutorials" / "broken.md").write_text(page)
    hook = json.dumps(str(ROOT / "docs" / "notebooks.py"))
    settings = f"site_name: Broken\nuse_directory_urls: false\nhooks: [{hook}]\nmarkdown_extensions: [admonition]\n"
    (tmp_path / "mkdocs.yml").write_text(settings)
    run = built(tmp_path, tmp_path / "site")
    assert run.returncode == 1
    assert [found[0] for found in TOLD.finditer(run.stderr)] == [
        "tutorials/broken.md, cell 3: NameError: name 'missing' is not defined"
    ]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (tmp_path / "site/tutorials/broken.html").read_text()))
    text = entities.unescape(text)
    shown = [
        "never()",
        "elsewhere",
        "WHERE = 'here'",
        "after 0",
        "first 'here'",
        "after 1",
        "NameError",
        "after 2",
        "after 3",
    ]
    places = [text.index(one) for one in shown]
    assert places == sorted(places)
