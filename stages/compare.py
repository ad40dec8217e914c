"""``headstart compare``: several evaluations on the same test images, and which differences may be chance."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.wording import counted, interval
from stages import history
from stages.console import Stage, say, show_table
from stages.options.of_settings import options, settings_of
from stages.options.paths import FOLDER

if TYPE_CHECKING:
    from pipeline.evaluation.verdict import Place

PAIRS_PRINTED = 15
TITLES = ("rank", "", "accuracy", "log loss", "training")


@click.command(cls=Stage)
@click.argument("out_dirs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.argument("result_dir", type=FOLDER)
@options(CompareSettings)
def compare(out_dirs: tuple[Path, ...], result_dir: Path, **chosen: Any) -> None:
    """Set the evaluations in OUT_DIRS side by side, and write tables, a picture and the verdict to RESULT_DIR.

    OUT_DIRS are folders that `evaluate` wrote from the same test images, or folders of such folders.
    """
    from pipeline.evaluation import compare, verdict

    folders = compare.expand(out_dirs)
    summary = compare.compare(folders, result_dir, settings_of(CompareSettings, chosen))
    told = f"{counted(summary.images, 'test image')}; in brackets 95 % intervals; p is of McNemar's test, mid-p"
    say(told + (f"\n{_corrected(len(summary.pairs))}\n" if len(summary.pairs) > 1 else "\n"))
    rows = [row(place) for place in summary.ranking]
    show_table(TITLES, rows, right={0, 4})
    say()
    for pair in summary.pairs[:PAIRS_PRINTED]:
        say(f"{pair.first} over {pair.second}: {verdict.difference(pair)}, {outcome(pair.better)}")
    if len(summary.pairs) > PAIRS_PRINTED:
        say(f"({PAIRS_PRINTED} of {len(summary.pairs):,} pairs; all are in {result_dir / compare.COMPARISON})")
    say()
    for sentence in (summary.verdict, *summary.fine_tuning):
        say(f"Verdict: {sentence}")
    for model, head in summary.joined.items():
        say(f"{model} is {head}, joined to its base, and judged once.")
    say(_looks(folders))
    say(f"-> {result_dir}")


def _corrected(pairs: int) -> str:
    return f"Of {pairs:,} pairs some differ by chance: their p-values and intervals are corrected for that, after Holm."


def outcome(better: str) -> str:
    """Say which of a pair is better."""
    from pipeline.evaluation.verdict import NO_DIFFERENCE

    return better if better == NO_DIFFERENCE else f"{better} is better"


def row(place: "Place") -> tuple[str, ...]:
    """Return a model's place in the ranking as cells under `TITLES`."""
    accuracy = interval(place.accuracy, place.accuracy_low, place.accuracy_high)
    loss = interval(place.log_loss, place.log_loss_low, place.log_loss_high)
    cost = "" if place.seconds is None else f"{place.seconds:,.1f} s"
    return (str(place.rank), place.name, accuracy, loss, cost)


def _looks(folders: list[Path]) -> str:
    """Say how often this test split was looked at; the history is no input, so this is told and not stored."""
    count, in_git = history.results(folders, Path.cwd())
    told = f"At least {counted(count, 'result')} on this test split so far"
    if not in_git:
        return f"{told}; no Git history is here to count more."
    return f"{told}, in Git's and DVC's history; each choice made by them flatters the best."


if __name__ == "__main__":
    compare()
