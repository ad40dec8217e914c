"""headstart prepare: a folder of labelled photos to a manifest."""

from pathlib import Path

import click

from pipeline.photos.remote import Root
from stages.console import Stage, progress, warn
from stages.options.duplicates import hash_distance
from stages.options.paths import PLACE


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of path,label[,split]; paths relative to IMAGES.")
@click.option("--label-pattern", help=r"Regular expression whose group is the label: '^([a-z]+)\.' for cat.0.jpg.")
@click.option("--val-fraction", default=0.1, show_default=True, help="Share of the images to validate on.")
@click.option(
    "--test-fraction", default=0.2, show_default=True, help="Share to test on, unless IMAGES has a test split."
)
@click.option("--stratify", is_flag=True, help="Hold the shares in every class; added images may then move others.")
@click.option(
    "--group-near-duplicates", is_flag=True, help="Keep copies in one split: re-encoded, resized or mirrored ones, too."
)
@hash_distance
@click.option("--max-quarantined", default=0.1, show_default=True, help="Largest fraction of unusable files.")
@click.option("--exclude", type=click.Path(path_type=Path), help="File of paths to leave out, one a line.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that decode.  [default: one a core]")
def prepare(
    images: Root,
    manifest: Path,
    labels: Path | None,
    label_pattern: str | None,
    val_fraction: float,
    test_fraction: float,
    stratify: bool,
    group_near_duplicates: bool,
    hash_distance: int,
    max_quarantined: float,
    exclude: Path | None,
    workers: int | None,
) -> None:
    """Read a folder of labelled photos: manifest, splits, quarantine and pictures of the data.

    IMAGES holds one folder a class, or train, val and test folders of such; or see --label-pattern and --labels.
    MANIFEST is the CSV to write; quarantine.csv and three pictures appear beside it.
    """
    from pipeline.photos import prepare

    with progress("images") as report:
        summary = prepare.prepare(
            images,
            manifest,
            labels_csv=labels,
            label_pattern=label_pattern,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            stratify=stratify,
            group_distance=hash_distance if group_near_duplicates else None,
            max_quarantined=max_quarantined,
            exclude=exclude,
            workers=workers,
            progress=report,
        )
    for warning in summary.warnings:
        warn(warning)
    splits = ", ".join(f"{split} {summary.images(split):,}" for split in ("train", "val", "test"))
    skipped = f", {summary.skipped:,} hidden or stray skipped" if summary.skipped else ""
    click.echo(
        f"{summary.images():,} images of {len(summary.counts):,} classes ({splits}), "
        f"{summary.quarantined:,} quarantined{skipped} -> {manifest}"
    )


if __name__ == "__main__":
    prepare()
