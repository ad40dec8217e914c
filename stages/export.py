"""``headstart export``: a head or a model as files that run without this project, and how far they are from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.export.settings import ExportSettings
from pipeline.wording import counted
from stages.console import Stage, progress, say, show_table
from stages.options.of_settings import options, settings_of
from stages.options.paths import FOLDER
from stages.process import only_ours

if TYPE_CHECKING:
    from pipeline.export.parity import ParityRow


@click.command(cls=Stage)
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("out_dir", type=FOLDER)
@options(ExportSettings)
def export(model_dir: Path, out_dir: Path, **chosen: Any) -> None:
    """Write the model or the head in MODEL_DIR to OUT_DIR as one graph from image to probabilities, with a model card.

    With --images and --manifest, each format is run on test images by its own runtime; one that does not do what the
    model does is an error, and nothing is written.
    """
    from pipeline.export import export

    with only_ours(), progress("steps") as advance:
        summary = export.export(model_dir, out_dir, settings_of(ExportSettings, chosen), progress=advance)
    if summary.parity:
        _show(summary.parity)
    else:
        say("not compared with the model: that takes --images and --manifest")
    say(f"{', '.join(summary.files.values())} -> {out_dir}")


def _show(rows: "list[ParityRow]") -> None:
    first = rows[0]
    say(f"{counted(first.images, 'test image')}, each format by its own runtime, beside the model's own answers\n")
    header = ("format", "labels agree", "largest difference", "ms an image", "MB")
    show_table(header, [_row(row) for row in rows], right={1, 2, 3, 4})
    say()


def _row(row: "ParityRow") -> tuple[str, ...]:
    difference = max(row.largest_difference, row.largest_difference_from_files or 0.0)
    return (
        row.format,
        f"{row.agreeing:,} of {row.clear:,}",
        f"{difference:.1e}",
        f"{row.milliseconds:.1f}",
        f"{row.megabytes:.1f}",
    )


if __name__ == "__main__":
    export()
