"""What a docstring names is there: a module that moved takes along what others say of it."""

import ast
import importlib
import re

import pytest

from tests import ROOT

FILES = [path.relative_to(ROOT) for folder in ("pipeline", "stages") for path in sorted((ROOT / folder).rglob("*.py"))]
NAMED = re.compile(r"(?<!`)`((?:[a-z_]\w*\.)+\w+)`(?!`)")
FILE_NAMES = ("headstart.py", "dvc.yaml")


def documented(path: str) -> set[str]:
    """Every dotted name that a docstring of a file has in single backticks."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if not NAMED.search(text):  # each process of the tests reads all files
        return set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return {name for node in nodes for name in NAMED.findall(ast.get_docstring(node) or "")}


NAMES = sorted({(name, str(path)) for path in FILES for name in documented(str(path)) if name not in FILE_NAMES})


def exists(name: str) -> bool:
    """Whether a name is a module, or something in a module whose path ends as the name begins."""
    outer, _, inner = name.rpartition(".")
    dotted = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES]
    if name in dotted:
        return True
    owners = [module for module in dotted if f".{module}".endswith(f".{outer}")]
    return any(hasattr(importlib.import_module(module), inner) for module in owners)


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_a_name_in_a_docstring_is_there(name: str, path: str) -> None:
    assert name.startswith(("hs.", "keras.", "tf.")) or exists(name), f"{path} names {name}"
