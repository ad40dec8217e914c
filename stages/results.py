"""``headstart results``: the test results of several heads, side by side."""

from pathlib import Path

import click

from stages.console import Stage, show_table

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@click.command(cls=Stage)
@click.argument("out_dirs", type=click.Path(path_type=Path), nargs=-1, required=True)
def results(out_dirs: tuple[Path, ...]) -> None:
    """Print a table of the test results in OUT_DIRS, folders that `evaluate` wrote, with their 95 % intervals."""
    from pipeline.evaluation import predictions_file

    measured = {path: predictions_file.read_metrics(path) for path in out_dirs}
    names = [path.name for path in out_dirs]
    rows = [
        (
            path.name if names.count(path.name) == 1 else str(path),
            f"{numbers['images']:,.0f}",
            *(_cell(numbers, metric) for metric in TITLES),
        )
        for path, numbers in measured.items()
    ]
    show_table(("", "images", *TITLES.values()), rows, right={1})
    click.echo("in brackets: 95 % intervals; pictures and predictions are in " + ", ".join(map(str, out_dirs)))


def _cell(numbers: dict[str, float], metric: str) -> str:
    if metric not in numbers:
        return "not defined"
    low, high = numbers[f"{metric}_low"], numbers[f"{metric}_high"]
    return f"{numbers[metric]:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    results()
