"""``headstart results``: the test results of several heads, side by side."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Final

import click

from pipeline.wording import UNDEFINED, interval
from stages.console import Stage, say, show_table

TITLES: Final = {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log loss"}  # what fits 80 columns


@click.command(cls=Stage)
@click.argument("out_dirs", type=click.Path(path_type=Path), nargs=-1, required=True)
def results(out_dirs: tuple[Path, ...]) -> None:
    """Print a table of the test results in OUT_DIRS, with their 95 % intervals.

    OUT_DIRS are folders that `evaluate` wrote, or folders of such folders.

    A model that is one of the heads, joined to its base, is named below the table instead.
    """
    from pipeline.evaluation import compare, predictions_file

    folders, joined = compare.once_each(compare.expand(out_dirs, predictions_file.ALL_METRICS))
    measured = {path: predictions_file.read_metrics(path) for path in folders}
    images = dict.fromkeys(f"{numbers['images']:,.0f}" for numbers in measured.values())  # most often one number
    say(f"test images: {', '.join(images)}; in brackets 95 % intervals\n")
    names = [path.name for path in measured]
    rows = [
        (path.name if names.count(path.name) == 1 else str(path), *(_cell(numbers, metric) for metric in TITLES))
        for path, numbers in measured.items()
    ]
    show_table(("", *TITLES.values()), rows, right=())
    told = [f"{model} is {head}, joined to its base" for model, head in joined.items()]
    say("\n" + "\n".join([*told, *_where_to_go_on(measured)]))


def _cell(numbers: Mapping[str, float], metric: str) -> str:
    if metric not in numbers:
        return UNDEFINED
    return interval(numbers[metric], numbers[f"{metric}_low"], numbers[f"{metric}_high"])


def _where_to_go_on(measured: Mapping[Path, Mapping[str, float]]) -> Iterator[str]:
    """Name what lies beside the results, where it lies as in `dvc.yaml`: the page, and the best head or model.

    The best has the highest accuracy and, of several, the least log loss.
    """
    yield f"Other metrics, predictions and pictures: {' '.join(map(str, measured))}"
    best = min(measured, key=lambda path: (-measured[path].get("accuracy", 0.0), measured[path].get("log_loss", inf)))
    root = best.parent.parent
    if (root / "report.html").exists():
        yield f"All on one page: {root / 'report.html'}"
    for trained in (root / "heads" / best.name, root / "models" / best.name, root / best.name):
        if trained.is_dir():
            yield f"To label photos: {_program()} predict {shlex.quote(str(trained))} PHOTOS"
            return


def _program() -> str:
    """Return what a shell is to be told: the path that was typed, as by ``make run``, or else the command's name."""
    typed = Path(sys.argv[0])
    return shlex.quote(sys.argv[0]) if typed.stem == "headstart" and not typed.is_absolute() else "headstart"


if __name__ == "__main__":
    results()
