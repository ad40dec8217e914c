"""``headstart run``: from a folder of photos to a classifier, step by step, without DVC.

Each step is a command of this program. One for which what ``run.json`` keeps of it still holds is not run again.
"""

import contextlib
import csv
import importlib
import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from pipeline.errors import InputError, WeightsError
from pipeline.photos.remote import Root
from pipeline.photos.settings import PrepareSettings
from pipeline.storage import locks
from stages.console import LEVELS, LOGGER, QUIET, Stage, say, steps, tell, warn
from stages.options.of_settings import options
from stages.options.paths import FOLDER, PLACE
from stages.run_record import Done, Step, TimeLeft, read_digests

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

    def busy(other: locks.Writer) -> str:
        return f"{output}: {other} is at work there; wait for it, or name another folder"

    with locks.alone(output / "lock", busy), _going(ctx, Done(output / "run.json")) as go:
        first = [_prepare(images, output, labels), _probe(images, output, quality)]
        rest = _rest(images, output, quality, None)
        go(first, rest)
        if base := _better(output / "probe" / "backbones.csv"):
            tell(f"{base} is shown to be better than the default base")
            rest = [_probe(images, output, quality, base), *_rest(images, output, quality, base)]
        go(rest, [])
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


@contextlib.contextmanager
def _going(ctx: click.Context, done: Done) -> Iterator[Callable[[Sequence[Step], Sequence[Step]], None]]:
    """Yield what runs steps, after which others come; one display shows how far all of them are.

    A step runs unless nothing changed, and what was run is kept.
    """
    left, gone = TimeLeft(done.seconds, time.monotonic()), itertools.count(1)

    def go(now: Sequence[Step], later: Sequence[Step]) -> None:
        coming = [*now, *later]
        for step in now:
            place = next(gone)
            label = f"{place}/{place + len(coming) - 1} {step.command}"
            coming = coming[1:]
            if done.holds(step):
                tell(f"{label}: nothing changed")
                continue
            left.begin(label, step, coming, time.monotonic())
            tell(label)
            draw()
            read = read_digests(step)
            _call(ctx, step.command, step.words)
            done.add(step, read, left.end(time.monotonic()))

    with steps(left.told) as draw:
        yield go


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


if __name__ == "__main__":
    run()
