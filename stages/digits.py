"""``headstart digits``: the default data."""

from pathlib import Path

import click

from stages.console import Stage, say
from stages.options.paths import FOLDER


@click.command(cls=Stage)
@click.argument("folder", type=FOLDER)
def digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits to FOLDER as PNG files, one folder a class."""
    from pipeline.photos.example_digits import write

    say(f"{write(folder):,} images of handwritten digits -> {folder}")


if __name__ == "__main__":
    digits()
