"""The site of docs/ builds with strict links, and its pages load nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click import Context, Group

from stages.__main__ import COMMANDS, main
from tests import ROOT

LOADING = {"src", "srcset", "href", "data", "poster", "action", "xlink:href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "mkdocs_click", "mkdocstrings_handlers.python", "material"):
        pytest.importorskip(name, reason="the packages of the extra `docs` are not installed")
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return folder


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
