"""What MkDocs does beside its configuration: options of commands, the list of decisions, docstrings as Markdown."""

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Module, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

OPTIONS = """

## All options

::: mkdocs-click
    :module: stages.{name}
    :command: {name}
    :prog_name: headstart {name}
    :depth: 2
    :style: table
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append every decision to the section of decisions, in the order of their numbers."""
    folder = Path(config.docs_dir)
    (decisions,) = [section["Decisions"] for section in config.nav if "Decisions" in section]
    decisions += sorted(path.relative_to(folder).as_posix() for path in folder.glob("adr/*.md"))
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Append the options of a command to its guide; in a decision, part a list from the line before it."""
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    if folder == "adr":
        return re.sub(r"^(?!\s|[-*] |\d+\. |\|)(.+)\n(?=([-*]|\d+\.) )", r"\1\n\n", markdown, flags=re.MULTILINE)
    return markdown + OPTIONS.format(name=name) if folder == "commands" and name != "index" else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put a default that an option's help names into its column; an option without one has an empty cell there."""
    html = re.sub(r"(?: *\[default: ([^\]]+)\])</td>\n<td><code>.*?</code></td>", r"</td>\n<td>\1</td>", html)
    return html.replace("<td><code>Sentinel.UNSET</code></td>", "<td></td>")


class Plain(Extension):
    """Docstrings are written for `help()`: literal blocks and references become Markdown."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, a class, a function or an attribute."""
        if obj.docstring:
            text = re.sub(r"^(.*?):?:$", lambda found: found[1] + ":" * bool(found[1]), obj.docstring.value, flags=re.M)
            text = re.sub(r"^References\n-+$", "**References**\n", text, flags=re.M)
            obj.docstring.value = re.sub(r"^\.\. \[(\d+)\]", r"\1.", text, flags=re.M).replace("]_", "]")

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Rewrite the docstring of what holds all others, too."""
        self.on_object(obj=pkg)
