"""A tutorial is a notebook in Markdown, as Jupytext reads it: each block of ``python`` is a cell.

Building the site runs all of them, one after the other in one process and with one cache, and puts what each cell shows
below it. The values that stand under ``offline`` at the top of a page replace those of its first cell, so that this
takes no network and little time; the page says so. The notebook to download is the page with its own values, and
without what it showed here. A cell that fails ends its notebook, and MkDocs' strict build.

Run as a program, ``notebooks.py FOLDER PAGE…`` runs the cells of pages and writes what they show to FOLDER/NAME.json.
"""

import ast
import base64
import contextlib
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import yaml

LOGGER = logging.getLogger("mkdocs.hooks.notebooks")
FOLDER = "tutorials/"
NOT_RUN = "```python .noeval"  # starts a block to read, as in Jupytext
CELL = re.compile(r"^```python\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
CLASSES, EACH = "13589", 60  # the digits that stand in for a reader's photos; fewer classes are drawn faster
COPIES = 4  # of each class, where a page wants some that it can find
NOTE = """
!!! note "How this page was made"

    The site is built without a network, and in seconds. So here the first cell was `{values}`{base}. The tables and
    pictures below are of {digits} handwritten digits, 8 by 8 pixels each{copies}. They show what you will see, not what
    your photos will give. All tutorials share a cache: where `computed` is less than you expect, another one was first.

"""
COPIED = ", and of copies of some in another format, planted here to be found"
PACKAGED = ": the ImageNet weights of this base come as a package"

shown: dict[str, list[list[dict[str, str]]]] = {}
"""Of each page that is a notebook what each of its cells showed; a cell that did not run is not there."""


def parts(text: str) -> tuple[dict[str, Any], list[str]]:
    """Part a page into its front matter and texts that are in turns prose and the code of a cell, prose first."""
    _, front, text = text.split("---\n", 2) if text.startswith("---\n") else ("", "", text)
    return yaml.safe_load(front) or {}, CELL.split(text)


def notebook(text: str) -> dict[str, Any]:
    """Return a page as a Jupyter notebook, nbformat 4.5."""
    cells = []
    for place, part in enumerate(parts(text)[1]):
        kind: dict[str, Any] = {"cell_type": "markdown"}
        if place % 2:
            kind = {"cell_type": "code", "execution_count": None, "outputs": []}
        if part.strip():
            source = re.sub(r"\]\(([\w-]+)\.md\)", r"](\1.ipynb)", part.strip().replace(NOT_RUN, "```python"))
            cells.append(
                {"id": f"cell-{len(cells)}", "metadata": {}, "source": source.splitlines(keepends=True), **kind}
            )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


# What runs the cells.


def run(text: str) -> list[list[dict[str, str]]]:
    """Run the cells of a page in this process; return what each showed, up to the first that failed."""
    front, texts = parts(text)
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for place, code in enumerate(texts[1::2]):
        outputs.append(_run_cell(code, names))
        if place == 0:
            names |= front.get("offline", {})
        if outputs[-1] and "error" in outputs[-1][-1]:
            break
    return outputs


def _run_cell(code: str, names: dict[str, Any]) -> list[dict[str, str]]:
    printed, found = io.StringIO(), []
    try:
        with contextlib.redirect_stdout(printed):
            body = ast.parse(code).body
            last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102 -- our own pages
            value = eval(compile(last, "cell", "eval"), names) if last else None  # noqa: S307
            found = [_shown(value)] if value is not None else []
    except Exception as error:  # noqa: BLE001 -- whatever a cell raises is told by its page
        traceback.print_exc()
        found = [{"error": f"{type(error).__name__}: {error}"}]
    return ([{"text": printed.getvalue()}] if printed.getvalue() else []) + found


def _shown(value: Any) -> dict[str, str]:
    """Return a value as Jupyter shows it."""
    if hasattr(value, "_repr_png_"):
        return {"png": base64.b64encode(value._repr_png_()).decode(), "text": Path(repr(value)).stem}
    return {"html": value._repr_html_()} if hasattr(value, "_repr_html_") else {"text": repr(value)}


def main(folder: Path, pages: list[Path]) -> None:
    """Run pages, each in a folder of its own; they share the photos and the cache."""
    from PIL import Image

    from pipeline.photos import example_digits

    os.environ["HEADSTART_CACHE"] = str(folder / "cache")
    example_digits.write(folder / "all")
    (folder / "new").mkdir()
    for label in CLASSES:
        (folder / "digits" / label).mkdir(parents=True)
        of_class = sorted((folder / "all" / label).iterdir())
        for photo in of_class[:EACH]:
            photo.rename(folder / "digits" / label / photo.name)
        of_class[EACH].rename(folder / "new" / of_class[EACH].name)
    shutil.copytree(folder / "digits", folder / "digits-and-copies")
    for label in CLASSES:
        for photo in sorted((folder / "digits-and-copies" / label).iterdir())[:COPIES]:
            with Image.open(photo) as image:
                image.save(photo.with_suffix(".bmp"))
    for page in pages:
        (folder / page.stem).mkdir()
        for name in ("digits", "digits-and-copies", "new"):
            (folder / page.stem / name).symlink_to(folder / name)
        os.chdir(folder / page.stem)
        (folder / f"{page.stem}.json").write_text(json.dumps(run(page.read_text(encoding="utf-8"))))


# What MkDocs calls.


def on_files(files: Any, config: Any) -> Any:
    """Run all notebooks, and add to the site each as a file to download."""
    from mkdocs.structure.files import File

    pages = [file for file in files if file.src_uri.startswith(FOLDER) and "```python\n" in file.content_string]
    pages.sort(key=lambda file: str(config.nav).find(file.src_uri))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder, *(str(file.abs_src_path) for file in pages)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
        for file in pages:
            outputs = Path(folder, f"{file.name}.json")
            shown[file.src_uri] = json.loads(outputs.read_text()) if outputs.exists() else [[{"error": done.stderr}]]
    for file in pages:
        last = shown[file.src_uri][-1]
        if last and "error" in last[-1]:
            LOGGER.warning("%s, cell %d: %s", file.src_uri, len(shown[file.src_uri]), last[-1]["error"])
        content = json.dumps(notebook(file.content_string), indent=1, ensure_ascii=False)
        files.append(File.generated(config, file.src_uri.replace(".md", ".ipynb"), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Put below each cell what it showed, and below the first how the page was made."""
    from mkdocs.structure.files import File

    uri = page.file.src_uri
    if uri not in shown:
        return markdown

    def below(output: dict[str, str]) -> str:
        if "html" in output:
            return f'\n<div class="shown">{output["html"]}</div>\n'
        if "png" in output:
            name = f"{page.file.name}-{len(pictures) + 1}.png"
            pictures.append(File.generated(config, f"{FOLDER}{name}", content=base64.b64decode(output["png"])))
            return f"\n![{output['text']}]({name})\n"
        return f"\n```text\n{output.get('text', output.get('error', '')).rstrip()}\n```\n"

    pictures: list[File] = []
    texts = CELL.split(markdown)
    title, texts[0] = texts[0].lstrip().split("\n", 1)
    built = [f"{title}\n\n[Download this notebook]({page.file.name}.ipynb){{ .md-button }}\n", texts[0]]
    for place, (code, prose) in enumerate(zip(texts[1::2], texts[2::2], strict=True)):
        outputs = shown[uri][place] if place < len(shown[uri]) else []
        built += [f"```python\n{code}```\n", *map(below, outputs)]
        if place == 0:
            values = "; ".join(f"{name} = {value!r}" for name, value in page.meta.get("offline", {}).items())
            base, copies = PACKAGED if "BASE" in values else "", COPIED if "copies" in values else ""
            built.append(NOTE.format(values=values, base=base, digits=len(CLASSES) * EACH, copies=copies))
        built.append(prose)
    for picture in pictures:
        files.append(picture)
    return "".join(built).replace(NOT_RUN, "```python")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(Path(sys.argv[1]), [Path(page) for page in sys.argv[2:]])
