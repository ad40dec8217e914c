"""``headstart results``: the test results of several heads, side by side."""

from pathlib import Path

import click

from stages.console import Stage

TITLES = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "macro_f1": "macro F1", "log_loss": "log loss"}
WIDTH = 22


@click.command(cls=Stage)
@click.argument("out_dirs", type=click.Path(path_type=Path), nargs=-1, required=True)
def results(out_dirs: tuple[Path, ...]) -> None:
    """Print a table of the test results in OUT_DIRS, folders that `evaluate` wrote, with their 95 % intervals."""
    from pipeline import outcomes

    measured = {path: outcomes.read_metrics(path) for path in out_dirs}
    name = max(len(path.name) for path in out_dirs)
    click.echo(f"{'':{name}}  {'images':>6}  " + "  ".join(f"{title:{WIDTH}}" for title in TITLES.values()).rstrip())
    for path, numbers in measured.items():
        cells = [_cell(numbers, metric) for metric in TITLES]
        click.echo(f"{path.name:{name}}  {numbers['images']:6,.0f}  " + "  ".join(cells).rstrip())
    click.echo("in brackets: 95 % intervals; pictures and predictions are in " + ", ".join(map(str, out_dirs)))


def _cell(numbers: dict[str, float], metric: str) -> str:
    if metric not in numbers:
        return f"{'not defined':{WIDTH}}"
    low, high = numbers[f"{metric}_low"], numbers[f"{metric}_high"]
    return f"{f'{numbers[metric]:.3f} [{low:.3f}, {high:.3f}]':{WIDTH}}"


if __name__ == "__main__":
    results()
