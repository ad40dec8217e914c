"""The library speaks Python, and the command line translates."""

import ast
import importlib
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner

import headstart
from pipeline.errors import NAMED, SETTING, ArtefactError, InputError, SettingError
from pipeline.setting import described
from stages.__main__ import COMMANDS, main
from stages.console import warn
from stages.options.translate import in_options
from tests import ROOT
from tests.fakes import write_classes

# The grammar itself; and what writes Markdown, a card and the pages of an API.
NO_MESSAGES: Final = ("errors.py", "model_card.py", "routes.py", "schemas.py")
TO_COPY: Final = "next_steps.py"  # the page of results ends with commands for a shell


@pytest.mark.parametrize(
    ("library", "command_line"),
    [
        ("`val_fraction`: expected 1", "--val-fraction: expected 1"),
        ("give `folds=5`", "give --folds 5"),
        ('train `head="knn"`', "train --head knn"),
        ("give `stratify=True` or `C`", "give --stratify or --C"),
        ("`calibrate=None`", "--calibrate none"),
        ("run `hs.prepare` again", "run `headstart prepare` again"),
        ("a file for `hs.prepare(exclude=...)`", "a file for `headstart prepare --exclude`"),
        ("`hs.extract(views=2, flip='both')`", "`headstart extract --views 2 --flip both`"),
        ("received 'a`b' and `git init`", "received 'a`b' and `git init`"),
    ],
)
def test_settings_become_options_and_steps_commands(library: str, command_line: str) -> None:
    assert in_options(library) == command_line


def test_an_error_carries_the_setting_what_was_expected_and_received_and_the_step_that_is_the_remedy() -> None:
    error = SettingError.of("val_fraction", "a number", None, "run `hs.prepare` again")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one) == "`val_fraction`: expected a number, received none: run `hs.prepare` again"
        assert (one.field, one.expected, one.received, one.step) == ("val_fraction", "a number", "none", "prepare")


def test_an_error_of_a_file_names_the_step_that_writes_it() -> None:
    error = ArtefactError("a.h5: expected rows, received none; run `hs.extract` again")
    assert (error.field, error.step) == (None, "extract")
    assert InputError("photos: expected a folder").step is None


@pytest.mark.parametrize(
    ("chosen", "typed", "python", "command_line"),
    [
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            ["--val-fraction", "0.5", "--test-fraction", "0.5"],
            "`val_fraction` and `test_fraction`: expected a sum below 1, received 0.5 and 0.5",
            "--val-fraction and --test-fraction: expected a sum below 1, received 0.5 and 0.5",
        ),
        (
            {"exclude": "nowhere.txt"},
            ["--exclude", "nowhere.txt"],
            "`exclude`: expected a file of paths, received 'nowhere.txt', which is none",
            "--exclude: expected a file of paths, received 'nowhere.txt', which is none",
        ),
    ],
)
def test_an_error_is_the_same_in_python_and_on_the_command_line_in_the_words_of_each(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: dict[str, object],
    typed: list[str],
    python: str,
    command_line: str,
) -> None:
    write_classes(tmp_path / "photos", {"dark": 2, "light": 2})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(headstart.InputError) as caught:
        headstart.prepare("photos", workers=1, **chosen)
    assert str(caught.value).endswith(python)
    result = CliRunner().invoke(main, ["prepare", "photos", "manifest.csv", "--workers", "1", *typed])
    assert result.exit_code in (1, 2)
    assert result.stderr.rstrip().endswith(command_line)


def test_a_warning_and_a_help_sentence_are_translated_too(capsys: pytest.CaptureFixture[str]) -> None:
    warn("3 classes without an image in val; give `stratify=True`")
    assert capsys.readouterr().err.endswith("3 classes without an image in val; give --stratify\n")
    help_text = CliRunner().invoke(main, ["extract", "--help"]).stdout
    assert "from this file, which `headstart probe` wrote." in " ".join(help_text.split())
    assert "from this file, which `hs.probe` wrote." in (headstart.extract.__doc__ or "")


def said(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a module but its docstrings, `…` in the place of what is filled in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "of" and len(node.args) > 2:
            yield from (f"`{name}`" for name in said(ast.Expr(node.args[0])))
            yield from (text for one in (*node.args[1:], *node.keywords) for text in said(ast.Expr(one)))
        else:
            yield from said(node)


def library() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def settings() -> dict[str, list[str]]:
    """What the help says of all settings of all rooms, by their names."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, _ in library():
        if path.stem.endswith("settings"):
            module = importlib.import_module(".".join(path.with_suffix("").parts))
            for kind in filter(is_dataclass, vars(module).values()):
                for name, one in described(kind).items():
                    found[name] += [one.about.help, one.about.unset]
    return found


def test_the_library_names_no_option_and_no_command_of_the_command_line() -> None:
    commands = "|".join(COMMANDS)
    typed = re.compile(rf"(?<![-\w])--[a-z]|headstart ({commands})\b")
    texts = [
        (path, node.value)
        for path, tree in library()
        if path.name != TO_COPY
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    ]
    # A word alone is what another program is called with.
    assert [(path, text) for path, text in texts if isinstance(text, str) and " " in text and typed.search(text)] == []


def test_help_names_no_argument_of_a_command() -> None:
    arguments = {
        str(one.name).upper()
        for name in COMMANDS
        for one in getattr(importlib.import_module(f"stages.{name}"), name).params
        if isinstance(one, click.Argument)
    }
    assert {"IMAGES", "MANIFEST", "HEAD_DIR"} <= arguments
    for name, sentences in settings().items():
        assert set(re.findall(r"[A-Z_]{2,}(?!\w|\.)", " ".join(sentences))) & arguments == set(), name


def test_what_stands_in_backticks_is_a_setting_or_a_step_that_python_and_the_command_line_have() -> None:
    names, steps = set(settings()), {step for step in COMMANDS if hasattr(headstart, step)}
    assert {"val_fraction", "zoom", "precision_at_least"} <= names
    for path, tree in library():
        if path.name in NO_MESSAGES:
            continue
        for text in said(tree):
            for marked in re.findall(r"`[^`]*`", text):
                found = NAMED.fullmatch(marked.replace("…", "0"))
                assert found, (path, text)
                named = [found["setting"], *(one["setting"] for one in re.finditer(SETTING, found["arguments"] or ""))]
                assert all(known(name, names) for name in named if name), (path, text)
                assert found["step"] is None or known(found["step"], steps), (path, text)


def known(name: str, names: set[str]) -> bool:
    """Whether a name, with 0 for what is filled in, is one of these, or may be."""
    return any(re.fullmatch(name.replace("0", r"\w+"), one) for one in names)
