"""``headstart export``: a model as files that run without this project, and a report of how well they do."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.models.settings import Runtime
from pipeline.photos.remote import Root
from stages.console import Stage, progress, show_table
from stages.options.of_settings import options
from stages.options.paths import PLACE

if TYPE_CHECKING:
    from pipeline.export import Row

FORMATS = ("keras", "saved_model", "tflite", "onnx", "openvino")
QUANTIZATIONS = ("none", "dynamic", "int8")


class _Several(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no argument
    """Names separated by commas, among known ones; perhaps ``all`` for each of them."""

    name = "names"

    def __init__(self, known: tuple[str, ...], everything: bool) -> None:
        self.known, self.everything = known, everything

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join((*self.known, *(['all'] if self.everything else [])))}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(name.strip() for name in value.split(","))
        if self.everything and names == ("all",):
            return self.known
        if odd := [name for name in names if name not in self.known]:
            self.fail(f"expected among {', '.join(self.known)}, received {', '.join(odd)}", param, ctx)
        return names


@click.command(cls=Stage)
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=_Several(FORMATS, everything=True),
    multiple=True,
    default=("onnx",),
    show_default="onnx",
    help="What to write; several separated by commas, or the option again, or all.",
)
@click.option(
    "--quantize",
    type=_Several(QUANTIZATIONS, everything=True),
    multiple=True,
    default=("none",),
    show_default="none",
    help="TFLite: a file for each: float32, weights of 8 bits, weights and activations of 8 bits.",
)
@click.option("--images", type=PLACE, help="Folder of images, with --manifest: to compare and to calibrate on.")
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="The manifest of these images.  [default: compare nothing]"
)
@click.option(
    "--sample", type=click.IntRange(1), default=400, show_default=True, help="Test images at most to compare on."
)
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Training images at most that int8 takes its ranges from.",
)
@click.option(
    "--evaluation", type=click.Path(path_type=Path), help="Folder that `evaluate` wrote for the model: for the card."
)
@options(Runtime, only=("cache",))
def export(
    model_dir: Path,
    out_dir: Path,
    formats: tuple[tuple[str, ...], ...],
    quantize: tuple[tuple[str, ...], ...],
    images: Root | None,
    manifest: Path | None,
    sample: int,
    calibration_images: int,
    evaluation: Path | None,
    cache: Path,
) -> None:
    """Write the model in MODEL_DIR to OUT_DIR as one graph from image to probabilities, with a model card.

    With --images and --manifest, each format is run on test images by its own runtime; one that does not do what the
    model does is an error, and nothing is written.
    """
    from pipeline import export as library

    if (images is None) != (manifest is None):
        raise click.UsageError("expected --images and --manifest together, received one of them")
    data = library.Data(images, manifest) if images and manifest else None
    chosen = library.Settings(
        formats=tuple(name for names in formats for name in names),
        quantize=tuple(kind for kinds in quantize for kind in kinds),  # type: ignore[misc]
        calibration_images=calibration_images,
        sample=sample,
    )
    with progress("steps") as advance:
        summary = library.export(
            model_dir, out_dir, settings=chosen, data=data, evaluation=evaluation, cache=cache, progress=advance
        )
    if summary.parity:
        _show(summary.parity)
    else:
        click.echo("not compared with the model: that takes --images and --manifest")
    click.echo(f"{', '.join(summary.files.values())} -> {out_dir}")


def _show(rows: "list[Row]") -> None:
    first = rows[0]
    click.echo(f"{first.images:,} test images, each format by its own runtime; in brackets 95 % intervals\n")
    header = ("format", "labels agree", "largest difference", "accuracy", "ms an image", "MB")
    show_table(header, [_row(row) for row in rows], right={1, 2, 4, 5})
    click.echo()


def _row(row: "Row") -> tuple[str, ...]:
    difference = max(row.largest_difference, row.largest_difference_from_files or 0.0)
    return (
        row.format,
        f"{row.agreeing:,} of {row.clear:,}",
        f"{difference:.1e}",
        f"{row.accuracy:.4f} [{row.accuracy_low:.4f}, {row.accuracy_high:.4f}]",
        f"{row.milliseconds:.1f}",
        f"{row.megabytes:.1f}",
    )


if __name__ == "__main__":
    export()
