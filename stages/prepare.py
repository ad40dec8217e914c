"""headstart prepare: a folder of labelled photos to a manifest."""

from pathlib import Path
from typing import Any

import click

from pipeline.photos.remote import Root
from pipeline.photos.settings import PrepareSettings
from pipeline.wording import counted
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, PLACE


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", type=FILE)
@options(PrepareSettings)
def prepare(images: Root, manifest: Path, **chosen: Any) -> None:
    """Read a folder of labelled photos: manifest, splits, quarantine and pictures of the data.

    IMAGES holds one folder a class, or train, val and test folders of such; or see --label-pattern and --labels.
    MANIFEST is the CSV to write; quarantine.csv and three pictures appear beside it.
    """
    from pipeline.photos import prepare
    from pipeline.photos.manifest import QUARANTINE

    with progress("images") as report:
        summary = prepare.prepare(images, manifest, settings_of(PrepareSettings, chosen), progress=report)
    for warning in summary.warnings:
        warn(warning)
    splits = ", ".join(f"{split} {summary.images(split):,}" for split in ("train", "val", "test"))
    skipped = f", {summary.skipped:,} hidden or stray skipped" if summary.skipped else ""
    reasons = f" (why: {manifest.parent / QUARANTINE})" if summary.quarantined else ""
    say(
        f"{counted(summary.images(), 'image')} of {counted(len(summary.counts), 'class', 'classes')} ({splits}), "
        f"{summary.quarantined:,} quarantined{reasons}{skipped} -> {manifest}"
    )


if __name__ == "__main__":
    prepare()
