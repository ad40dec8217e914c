"""``headstart recipe``: a well-known recipe, as a set of parameters, run through DVC.

DVC reads parameters from ``params.yaml`` alone. So this file holds those of the recipe while DVC runs, and the user's
own bytes lie in ``.dvc/tmp``. They come back however the run ends.
"""

import contextlib
import difflib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import yaml

from pipeline.errors import ArtefactError, InputError
from stages import process
from stages.compare import TITLES, outcome, row
from stages.console import Stage, say, show_table
from stages.options.edited_params import HEADS, PARAMS, Options, edited

FOLDER: Final = "recipes"  # of a project, for its own
PACKAGED: Final = Path(__file__).with_name(FOLDER)
COMPARISON: Final = "data/comparison/comparison.json"
MODEL: Final = "model"
CURVE: Final = "data/evaluation/model/plots/learning_curves.png"
KEPT: Final = ".dvc/tmp/params.yaml"  # the user's own while a recipe runs
# A group of its own, so that a signal reaches DVC and its stages alone; Windows calls it by another name.
_OWN_GROUP: Final[dict[str, Any]] = {"process_group": 0} if hasattr(os, "killpg") else {"creationflags": 0x200}


@dataclass(frozen=True)
class Recipe:
    """A file of `stages/recipes/`, or of the project's own ``recipes/``.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    sentence : str
        What it is, from the file's first line.
    about : str
        Where it comes from, what to expect and how long it takes, from the lines of comment below that.
    sections : dict of str to dict
        Options by section of params.yaml, a section of each head as ``train.dense``. Each stands for its whole section.
    """

    name: str
    sentence: str
    about: str
    sections: dict[str, Options]


@click.command(cls=Stage, kept="Stages that ended are in DVC's cache; the same command goes on after them.")
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Print what there is, a sentence each, and run nothing.")
@click.option(
    "--weights", metavar="imagenet|none|FILE", help="Weights of the base.  [default: as in the recipe, imagenet]"
)
@click.option(
    "-S",
    "--set-param",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for a parameter; +KEY=VALUE adds one. Repeatable.",
)
@click.pass_context
def recipe(ctx: click.Context, name: str | None, listed: bool, weights: str | None, changes: tuple[str, ...]) -> None:
    """Run all stages with the recipe NAME, on the images that params.yaml names, as an experiment of DVC.

    The recipe's sections take the place of those of params.yaml while it runs; then your own file is back.
    """
    if listed == (name is not None):
        raise click.UsageError(f"expected NAME or --list, received {'both' if listed else 'neither'}", ctx)
    root = project(Path.cwd())
    if name is None:
        found = [find(root or Path.cwd(), one) for one in names(root or Path.cwd())]
        width = max((len(one.name) for one in found), default=0)
        say("\n".join(f"{one.name:{width}}  {one.sentence}" for one in found))
        return
    if root is None:
        raise InputError(
            f"{Path.cwd()}: expected a project with dvc.yaml, received a folder outside of one: "
            "`headstart init` makes one"
        )
    chosen = find(root, name)
    require_git(root)
    if importlib.util.find_spec("dvc") is None:
        raise InputError(
            f"{sys.executable}: expected DVC in this environment, received none: pip install 'headstart[dvc]'"
        )
    text = edited(root / PARAMS, chosen.sections, [*_weights(weights, root), *changes])
    say(f"{chosen.name}: {chosen.sentence}\n{chosen.about}")
    status = _run(root, text, (["repro"], ["exp", "save", "--message", f"recipe {chosen.name}"]))
    which = "of this recipe" if status == 0 else "partly of this recipe, which did not come to its end"
    say(
        f"{PARAMS} is yours again. What is in data/ is {which}: `dvc repro` brings back the results of {PARAMS}; those "
        "that were there before come from DVC's cache."
    )
    if status == 0:
        _show_results(root, str(chosen.sections.get("finetune", {}).get("head")))
    ctx.exit(status)


def project(start: Path) -> Path | None:
    """Return the nearest folder, from `start` upwards, that holds a ``dvc.yaml``; None if there is none."""
    return next((folder for folder in (start, *start.parents) if (folder / "dvc.yaml").is_file()), None)


def names(root: Path) -> list[str]:
    """List the recipes for a project."""
    return sorted(_files(root))


def _files(root: Path) -> dict[str, Path]:
    """Return the file of each recipe; of two of a name, the project's own."""
    return {path.stem: path for folder in (PACKAGED, root / FOLDER) for path in folder.glob("*.yaml")}


def find(root: Path, name: str) -> Recipe:
    """Return the recipe of that name; InputError names the nearest if there is none."""
    known = _files(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `headstart recipe --list` shows them"
        raise InputError(f"recipe: expected one of {len(known)} names, received {name!r}{hint}")
    path = known[name]
    document = _mapping(path)
    first, *others = path.read_text(encoding="utf-8").splitlines() or [""]
    if not first.startswith("# "):
        raise ArtefactError(f"{path}: expected a first line that says what it is, as '# …', received {first!r}")
    about = [line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), others)]
    sections: dict[str, Options] = {}
    for section, options in document.items():
        _require_options(path, section, options)
        if section == HEADS:
            sections |= {f"{HEADS}.{head}": own for head, own in options.items()}
        else:
            sections[section] = options
    for section, options in sections.items():
        _require_options(path, section, options)
    return Recipe(name, first.removeprefix("# "), "\n".join(about), sections)


def _show_results(root: Path, head: str) -> None:
    """Print the head beside the model, the verdict, and where the curve of both is, as DVC's stages left them."""
    from pipeline.evaluation import compare, verdict
    from pipeline.evaluation.verdict import Pair, Place

    if not (root / COMPARISON).is_file():  # of a project with other stages
        return
    found = compare.COMPARED.read(root / COMPARISON)
    places = [Place(**place) for place in found["ranking"] if place["name"] in (head, MODEL)]
    show_table(TITLES, [row(place) for place in places], right={0, 4})
    for pair in (Pair(**pair) for pair in found["pairs"]):
        if {pair.first, pair.second} == {head, MODEL}:
            say(f"{pair.first} over {pair.second}: {verdict.difference(pair)}, {outcome(pair.better)}")
    for sentence in found["fine_tuning"] or [found["verdict"]]:
        say(f"Verdict: {sentence}")
    if found["joined"].get(MODEL) == head:
        say(f"{MODEL} is {head}, joined to its base, and judged once.")
    if (root / CURVE).is_file():
        say(f"loss and accuracy over all epochs -> {CURVE}")


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


def _run(root: Path, text: str, calls: Sequence[list[str]]) -> int:
    """Call DVC, with the Python of this environment, while params.yaml is `text`; return the first status but 0.

    A signal to stop is handed on to DVC and the stage that it runs, and both are waited for: a stage that outlived this
    process would write into data/ behind the user's back.
    """
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    received: list[int] = []
    before: dict[int, Any] = {}
    running: subprocess.Popen[bytes] | None = None
    status = 0

    def stop(number: int, frame: object) -> None:
        if before.get(number) is signal.SIG_IGN:  # as under nohup
            return
        received.append(number)
        if running is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                _interrupt(running)

    before.update((number, signal.signal(number, stop)) for number in process.STOPS)
    try:
        with _params(root, text):
            while calls and not (status or received):
                words, *calls = calls
                command = [sys.executable, "-m", "dvc", *words]
                running = subprocess.Popen(command, cwd=root, env=environment, **_OWN_GROUP)  # noqa: S603
                if received:  # before there was a process to hand it on to
                    _interrupt(running)
                status, running = running.wait(), None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else status


def _interrupt(running: "subprocess.Popen[bytes]") -> None:
    """Stop DVC and the stage that it runs, as Ctrl-C does."""
    if hasattr(os, "killpg"):
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _params(root: Path, text: str) -> Iterator[None]:
    """Let params.yaml be `text` for a while; the file itself is moved aside, so that it comes back whole."""
    own, kept = root / PARAMS, root / KEPT
    if kept.exists():
        raise InputError(
            f"{own}: expected your own values, received those of a recipe that is running or was killed: if none is "
            f"running, `mv {KEPT} {PARAMS}` brings yours back"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    own.rename(kept)
    try:
        own.write_text(text, encoding="utf-8")
        yield
    finally:
        kept.replace(own)


def _git(root: Path, *words: str) -> str | None:
    """Return what a question to Git prints; None if it fails, or there is no Git."""
    try:
        asked = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _weights(given: str | None, root: Path) -> list[str]:
    """Return the changes that name the base's weights."""
    if given in (None, "imagenet"):
        return ["+base.weights=imagenet"] if given else []
    if given == "none":  # features of random weights may be smaller than float16 can tell from 0
        return ["+base.weights=none", "+extract.dtype=float32"]
    file = Path(given).resolve()
    if not file.is_file():
        raise InputError(f"--weights: expected imagenet, none or a file, received {given!r}")
    named = json.dumps(str(file.relative_to(root.resolve()) if file.is_relative_to(root.resolve()) else file))
    return [f"+base.weights={named}"]


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


if __name__ == "__main__":
    recipe()
