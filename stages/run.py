"""``headstart run``: from a folder of photos to a classifier, step by step, without DVC.

Each step is a command of this program. ``run.json`` in the output folder keeps of every finished step its command, the
version, and the digests of what it read and wrote: a step for which all of these still hold is not run again.
"""

import contextlib
import csv
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pipeline.errors import ArtefactError, BusyError, InputError, WeightsError
from pipeline.photos.remote import Root
from pipeline.photos.settings import PrepareSettings
from pipeline.storage import digests, locks
from pipeline.storage.json_files import OBJECT, Document, publish
from stages.console import LEVELS, LOGGER, QUIET, Stage, progress, say, tell, warn
from stages.options.of_settings import options
from stages.options.paths import FOLDER, PLACE

QUALITIES: Final = ("fast", "good", "best")
SOURCE: Final = ("labels", "label_pattern")  # the settings of `prepare` that say where the labels are
# What most photos may undergo and still show the same: no flip, which turns a digit or a letter into another one.
VIEWS: Final = (
    *("--views", 4, "--rotation", 0.03, "--zoom", 0.1, "--shift", 0.05),
    *("--brightness", 0.1, "--contrast", 0.1),
)
BASES: Final = ("efficientnet_v2_s", "convnext_tiny")  # to compare with the default, if their weights are to be had
EPOCHS: Final = 5
OF_DATA: Final = ("prepare", "audit")  # what these say of the photos is always shown
RECORD: Final = Document("the steps that were run", "`hs.run`", {"steps": OBJECT}, version=1, sealed=True)


@dataclass(frozen=True)
class Step:
    """A command with its words, the files and folders that it reads, and those that it writes."""

    command: str
    words: tuple[Any, ...]
    reads: tuple[Root, ...]
    writes: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What tells it from the other steps: the command, and where the result goes."""
        return f"{self.command} {self.writes[0].name}"


@click.command(cls=Stage, kept="Finished steps and computed features are kept; the same command goes on from them.")
@click.argument("images", type=PLACE)
@click.option(
    "--output", type=FOLDER, default=Path("headstart-out"), show_default=True, help="Folder for all that is written."
)
@click.option(
    "--quality",
    type=click.Choice(QUALITIES),
    default=QUALITIES[0],
    show_default=True,
    help="fast: the default base; good: also changed copies of the training photos, and a search for the head's "
    "parameters; best: also the best of several bases, and fine-tuning.",
)
@options(PrepareSettings, only=SOURCE)
@click.pass_context
def run(ctx: click.Context, /, images: Root, output: Path, quality: str, **source: Any) -> None:
    """Make a classifier of the photos in the folder IMAGES: prepare, probe, extract, audit, train, evaluate, report.

    The same command again runs only what the photos, the options or a new version ask for.
    """
    if isinstance(images, Path) and output.resolve().is_relative_to(images.resolve()):
        raise click.UsageError(f"--output: expected a folder outside the photos in {images}, received {output}")
    if quality == QUALITIES[-1]:
        _require_tensorflow()
    labels = [word for name, value in source.items() if value for word in (f"--{name.replace('_', '-')}", value)]
    with _alone(output), progress("steps"):
        done = _Done(output / "run.json")
        first = [_prepare(images, output, labels), _probe(images, output, quality)]
        rest = _rest(images, output, quality, None)
        for place, step in enumerate(first, start=1):
            _go(ctx, done, step, f"{place}/{len(first) + len(rest)}")
        if base := _better(output / "probe" / "backbones.csv"):
            tell(f"{base} is shown to be better than the default base")
            rest = [_probe(images, output, quality, base), *_rest(images, output, quality, base)]
        for place, step in enumerate(rest, start=len(first) + 1):
            _go(ctx, done, step, f"{place}/{len(first) + len(rest)}")
    _show(ctx, rest)


def _require_tensorflow() -> None:
    """Raise InputError at once where the last steps would, after minutes."""
    from pipeline.backbones.engines import engine

    if not engine.version_of("tensorflow"):
        raise InputError.of(
            "quality", "TensorFlow to be installed, which fine-tunes", "none", "pip install 'headstart[cpu]'"
        )


def _prepare(images: Root, output: Path, labels: Sequence[Any]) -> Step:
    manifest, given = output / "manifest.csv", tuple(label for label in labels if isinstance(label, Path))
    written = (manifest, manifest.with_suffix(".json"))
    return Step("prepare", (images, manifest, *labels), (images, *given), written)


def _probe(images: Root, output: Path, quality: str, base: str | None = None) -> Step:
    manifest, found = output / "manifest.csv", _cut(output, base)
    words = [word for name in _to_be_had(BASES) for word in ("--compare", name)] if quality == "best" else []
    words = ["--backbone", base] if base else words
    return Step("probe", (images, manifest, found, *words), (manifest,), (found.parent,))


def _cut(output: Path, base: str | None) -> Path:
    return output / (f"probe-{base}" if base else "probe") / "cut.json"


def _rest(images: Root, output: Path, quality: str, base: str | None) -> list[Step]:
    """Return the steps after the probe, which chose the base; None is the default one."""
    manifest, features, cut = output / "manifest.csv", output / "features.h5", _cut(output, base)
    head, model, evaluations = output / "heads" / "logistic", output / "models" / "finetuned", output / "evaluation"
    extraction, audit, reports = output / "extraction.json", output / "audit", output / "reports"
    data, rows = (images, manifest, features), (manifest, features)
    chosen = ("--backbone", base) if base else ()
    careful, thorough = quality != "fast", quality == "best"

    def evaluation(trained: Path) -> Step:
        into = evaluations / trained.name
        return Step("evaluate", (*data, trained, into), (*rows, trained), (into,))

    steps = [
        Step(
            "extract",
            (*data, *chosen, "--cut-file", cut, *(VIEWS if careful else ()), "--report", extraction),
            (manifest, cut),
            (features, extraction),
        ),
        Step("audit", (*data, audit), rows, (audit,)),
        Step(
            "train", (*rows, head, *(["--search"] if careful else []), "--report", reports / "head.json"), rows, (head,)
        ),
        evaluation(head),
    ]
    trained, compared = [head, model] if thorough else [head], output / "comparison"
    judged = [evaluations / one.name for one in trained]
    if thorough:
        tuning = (*data, head, model, "--epochs", EPOCHS, "--report", reports / "model.json")
        steps += [
            Step("finetune", tuning, (*rows, head), (model,)),
            evaluation(model),
            Step("compare", (*judged, compared, "--reports", reports), tuple(judged), (compared,)),
        ]
    page, given = output / "report.html", [word for one in trained for word in ("--trained", one)]
    given += ["--comparison", compared] if thorough else []
    known = ("--probe", cut, "--extraction", extraction, "--audit", audit, "--reports", reports)
    read = (*rows, *judged, cut.parent, extraction, audit, *trained)
    return [*steps, Step("report", (*data, *judged, page, *known, *given), read, (page,))]


def _to_be_had(bases: Sequence[str]) -> Iterator[str]:
    """Yield the bases whose weights are on this machine or can be fetched; of others, say what is missing."""
    from pipeline.backbones import table, weights

    for name in bases:
        base = table.find(name)
        try:
            weights.find_weights(base, weights.IMAGENET, size=base.size, alpha=1.0, seed=0)
        except WeightsError as error:
            warn(f"{name} is not compared: {error}")
        else:
            yield name


def _better(path: Path) -> str | None:
    """Return the base that was shown to be better than the default one; of several, the most accurate."""
    with path.open(encoding="utf-8", newline="") as file:
        better = [row for row in csv.DictReader(file) if row["shown"] == "better"]
    return max(better, key=lambda row: float(row["accuracy"]))["backbone"] if better else None


class _Done:
    """The steps that were run, as ``run.json`` keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, Any] = {}
        if path.exists():
            try:
                self.steps = RECORD.read(path)["steps"]
            except ArtefactError as error:
                warn(f"{error}; all steps are run")

    def holds(self, step: Step) -> bool:
        """Whether the last run of a step is as good as another one."""
        known = self.steps.get(step.name)
        return known is not None and None not in known["read"].values() and known == _state(step)

    def add(self, step: Step, read: dict[str, Any]) -> None:
        """Keep that a step was run; `read` are the digests of before."""
        self.steps[step.name] = _state(step) | {"read": read}
        publish(self.path, {"format": 1, "steps": self.steps})


def _state(step: Step) -> dict[str, Any]:
    return {
        "command": [step.command, *map(str, step.words)],
        "version": importlib.metadata.version("headstart"),
        "read": _read(step),
        "written": {str(place): _digest(place, _content) for place in step.writes},
    }


def _read(step: Step) -> dict[str, str | None]:
    """Return the digests of what a step reads. `prepare` reads the photos, which may be millions: none is opened."""
    of_file = _looks if step.command == "prepare" else _content
    return {str(place): _digest(place, of_file) for place in step.reads}


def _content(path: Path) -> str:
    return digests.of_file(path)


def _looks(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest(place: Root, of_file: Callable[[Path], str]) -> str | None:
    """Return what stands for a file, or a folder with all in it; None for what is missing or lies behind an address."""
    if not isinstance(place, Path) or not place.exists():
        return None
    if place.is_file():
        return of_file(place)
    listed = hashlib.sha256()
    for folder, folders, files in os.walk(place, followlinks=True):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(files)):
            with contextlib.suppress(FileNotFoundError):  # a broken link
                listed.update(json.dumps([str(path), of_file(path)]).encode())
    return listed.hexdigest()


def _go(ctx: click.Context, done: _Done, step: Step, place: str) -> None:
    """Run a step unless nothing changed, and keep that it was run."""
    if done.holds(step):
        tell(f"{place} {step.command}: nothing changed")
        return
    tell(f"{place} {step.command}")
    read = _read(step)
    _call(ctx, step.command, step.words)
    done.add(step, read)


def _call(ctx: click.Context, name: str, words: Sequence[Any]) -> None:
    """Run a command within this one: its warnings and progress show, and what it says of the data, or with ``-v``."""
    command: click.Command = getattr(importlib.import_module(f"stages.{name}"), name)
    verbosity = LEVELS.index(LOGGER.level) if LOGGER.level in LEVELS else 0
    told = ["--verbose"] * verbosity + ["--quiet"] * bool(ctx.meta.get(QUIET))
    with contextlib.ExitStack() as stack:
        if not verbosity and name not in OF_DATA:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        inner = stack.enter_context(command.make_context(name, [*map(str, words), *told], parent=ctx))
        click.Command.invoke(command, inner)  # not Stage.invoke: errors and signals are for the outer command


def _show(ctx: click.Context, steps: Sequence[Step]) -> None:
    """Print the results of the evaluations among the steps, and what was compared."""
    from pipeline.evaluation.compare import COMPARED, SUMMARY
    from stages.results import results

    into = {name: [step.writes[0] for step in steps if step.command == name] for name in ("evaluate", "compare")}
    with results.make_context("results", [*map(str, into["evaluate"])], parent=ctx) as inner:
        click.Command.invoke(results, inner)
    for folder in into["compare"]:
        for sentence in COMPARED.read(folder / SUMMARY)["fine_tuning"]:
            say(f"Verdict: {sentence}")


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the output folder, so that two runs do not write there at once."""
    with contextlib.ExitStack() as stack:
        folder = output / "lock"
        with locks.mutex(folder):
            if others := locks.cleared(folder):
                raise BusyError(f"{output}: {others[0]} is at work there; wait for it, or name another folder")
            stack.enter_context(locks.entered(folder, 0.0, 1.0))
        yield


if __name__ == "__main__":
    run()
