"""``headstart recipe``: a well-known recipe, as a set of parameters, run through DVC."""

import difflib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import yaml

from pipeline.errors import ArtefactError, InputError
from stages.console import Stage

FOLDER: Final = "recipes"
PARAMS: Final = "params.yaml"
HEADS: Final = "train"
WEIGHTS: Final = ("imagenet", "none")

Options = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A file of `recipes/`.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    sentence : str
        What it is, from the file's first line.
    sections : dict of str to dict
        Options by section of params.yaml, a section of each head as ``train.dense``. Each stands for its whole section.
    """

    name: str
    sentence: str
    sections: dict[str, Options]

    @property
    def targets(self) -> list[str]:
        """The stages that DVC is asked for: those of the recipe's heads alone, and those of the model."""
        heads = [section.partition(".")[2] for section in self.sections if section.startswith(f"{HEADS}.")]
        return [*(f"{stage}@{head}" for head in heads for stage in (HEADS, "evaluate")), "finetune", "evaluate-model"]


@click.command(cls=Stage)
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Print what there is, a sentence each, and run nothing.")
@click.option("--weights", metavar="imagenet|none|FILE", help="Of the base.  [default: as in the recipe, imagenet]")
@click.option(
    "-S",
    "--set-param",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="As in `dvc exp run`, after those of the recipe. Repeatable.",
)
@click.pass_context
def recipe(ctx: click.Context, name: str | None, listed: bool, weights: str | None, changes: tuple[str, ...]) -> None:
    """Run the recipe NAME as an experiment of DVC, on the images that params.yaml names.

    The recipe's parameters take the place of whole sections of params.yaml; `git restore params.yaml` undoes that.
    """
    if listed == (name is not None):
        raise click.UsageError(f"expected NAME or --list, received {'both' if listed else 'neither'}", ctx)
    root = project(Path.cwd())
    if name is None:
        click.echo("\n".join(_table(root)))
        return
    chosen = find(root, name)
    require_git(root)
    if importlib.util.find_spec("dvc") is None:
        raise InputError(f"{sys.executable}: expected DVC in this environment, received none: pip install dvc")
    sections = chosen.sections if weights is None else with_weights(chosen.sections, _weights(weights, root))
    params = _mapping(root / PARAMS)
    click.echo(f"{chosen.name}: {chosen.sentence}")
    ctx.exit(_run(root, chosen, [*assignments(sections, params), *changes]))


def project(start: Path) -> Path:
    """Return the nearest folder, from `start` upwards, that holds a ``dvc.yaml`` and recipes."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / FOLDER).is_dir():
            return folder
    raise InputError(f"{start}: expected a checkout with dvc.yaml and {FOLDER}/, received a folder outside of one")


def names(root: Path) -> list[str]:
    """List the recipes of a project."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def find(root: Path, name: str) -> Recipe:
    """Return the recipe of that name; InputError names the nearest if there is none."""
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `headstart recipe --list` shows them"
        raise InputError(f"recipe: expected one of {len(known)} names, received {name!r}{hint}")
    path = root / FOLDER / f"{name}.yaml"
    document = _mapping(path)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    if not first.startswith("# "):
        raise ArtefactError(f"{path}: expected a first line that says what it is, as '# …', received {first!r}")
    sections: dict[str, Options] = {}
    for section, options in document.items():
        _require_options(path, section, options)
        if section == HEADS:
            sections |= {f"{HEADS}.{head}": own for head, own in options.items()}
        else:
            sections[section] = options
    for section, options in sections.items():
        _require_options(path, section, options)
    return Recipe(name, first.removeprefix("# "), sections)


def with_weights(sections: Mapping[str, Options], weights: str) -> dict[str, Options]:
    """Return the sections with other weights of the base; fine-tuning must be told of a file, and finds the rest."""
    if not {"base", "finetune"} <= sections.keys():
        raise InputError(
            f"--weights: expected a recipe with sections base and finetune, received {', '.join(sections)}"
        )
    changed = {section: dict(options) for section, options in sections.items()}
    changed["base"]["weights"] = weights
    if weights not in WEIGHTS:
        changed["finetune"]["weights"] = weights
    return changed


def assignments(sections: Mapping[str, Options], params: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``dvc exp run --set-param`` needs to put `sections` in the place of those that `params` has.

    The grammar is Hydra's: ``~key`` takes a key away, ``++key=value`` sets it whether or not it is there. Text is
    quoted, since a bare comma would start a sweep over several experiments.
    """
    for section, options in sections.items():
        present: Any = params
        for part in section.split("."):
            present = present.get(part) if isinstance(present, Mapping) else None
        for key in present if isinstance(present, Mapping) else ():
            if key not in options:
                yield f"~{section}.{key}"
        for key, value in options.items():
            yield f"++{section}.{key}={_text(value)}"


def require_git(root: Path) -> None:
    """Raise InputError unless `root` lies in a Git repository with a commit, and Git knows whose commits these are.

    The identity is what DVC's own access to Git takes: two variables of the environment, else ``user.name`` and
    ``user.email``; the ``git`` command would make one up from the host's name.
    """
    why = "since DVC keeps an experiment as a commit"
    if _git(root, "rev-parse", "--git-dir") is None:
        raise InputError(f"{root}: expected a Git repository, {why}, received none: clone it, or `git init` and commit")
    if _git(root, "rev-parse", "--verify", "HEAD") is None:
        raise InputError(f"{root}: expected a commit to start from, {why}, received none: `git add .` and `git commit`")
    for key in ("name", "email"):
        given = [os.environ.get(f"GIT_{role}_{key.upper()}") for role in ("AUTHOR", "COMMITTER")]
        if not all(given) and not _git(root, "config", f"user.{key}"):
            raise InputError(
                f"{root}: expected a Git identity, {why}, received no user.{key}: `git config user.name NAME` and "
                "`git config user.email ADDRESS`"
            )


def _run(root: Path, chosen: Recipe, changes: list[str]) -> int:
    """Let DVC run the stages, with the Python of this environment; return its exit status."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    told = [word for change in changes for word in ("--set-param", change)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--message", f"recipe {chosen.name}", *told, *chosen.targets]
    return subprocess.run(command, cwd=root, env=os.environ | {"PATH": path}).returncode  # noqa: S603


def _git(root: Path, *words: str) -> str | None:
    """Return what a question to Git prints; None if it fails, or there is no Git."""
    try:
        asked = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _weights(given: str, root: Path) -> str:
    """Return weights as a stage that runs in `root` takes them."""
    if given in WEIGHTS:
        return given
    file = Path(given).resolve()
    if not file.is_file():
        raise InputError(f"--weights: expected imagenet, none or a file, received {given!r}")
    return str(file.relative_to(root.resolve()) if file.is_relative_to(root.resolve()) else file)


def _table(root: Path) -> list[str]:
    found = [find(root, name) for name in names(root)]
    width = max((len(one.name) for one in found), default=0)
    return [f"{one.name:{width}}  {one.sentence}" for one in found]


def _mapping(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: expected YAML: {error}") from error
    if not isinstance(document, dict):
        raise ArtefactError(f"{path}: expected sections of options, received {type(document).__name__}")
    return document


def _require_options(path: Path, section: str, options: object) -> None:
    if not isinstance(options, dict):
        raise ArtefactError(f"{path}: expected options under {section}, received {options!r}")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    quoted = str(value).replace("'", "\\'")
    return f"'{quoted}'"


if __name__ == "__main__":
    recipe()
