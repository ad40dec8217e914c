"""``headstart audit``: copies, leaks, contradictions, wrong labels, outliers and classes that look alike."""

from pathlib import Path
from typing import Any

import click

from pipeline.audit.settings import AuditSettings
from pipeline.photos.remote import Root
from pipeline.wording import counted
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.param_types import NONE
from stages.options.paths import FOLDER, PLACE

FAULTS = {
    "leakage": ("test image with a copy in train or val", "test images with a copy in train or val"),
    "conflicts": ("picture with different labels", "pictures with different labels"),
}


def _faults(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Turn ``leakage,conflicts`` or ``none`` into names of faults."""
    names = () if text in NONE else tuple(text.split(","))
    if not set(names) <= set(FAULTS):
        raise click.BadParameter(f"expected some of {', '.join(FAULTS)}, or none; received {text!r}", ctx, parameter)
    return names


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("out_dir", type=FOLDER)
@click.option(
    "--fail-on",
    default="none",
    show_default=True,
    callback=_faults,
    help="End with status 1, after all is written, on leakage, conflicts or both.",
)
@options(AuditSettings)
def audit(images: Root, manifest: Path, features: Path, out_dir: Path, fail_on: tuple[str, ...], **chosen: Any) -> None:
    """Look for faults in the data, and write tables and pictures of them to OUT_DIR."""
    from pipeline.audit import audit

    with progress("images") as report:
        settings = settings_of(AuditSettings, chosen)
        counts = audit.audit(images, manifest, features, out_dir, settings, progress=report)
    for warning in audit.warnings_of(features):
        warn(warning)
    certain = counts["same_bytes"] + counts["same_pixels"] + counts["near_duplicates"]
    unjudged = counts["labels_not_judged"]
    told = f" ({unjudged:,} not judged, for want of others to learn from)" if unjudged else ""
    say(
        f"{counted(counts['images'], 'image')}: {counted(certain, 'copy', 'copies')}, "
        f"{counts['leakage']:,} of them between test and another split, "
        f"{counted(counts['conflicts'], 'picture')} with different labels, "
        f"{counted(counts['label_issues'], 'label')} likely wrong{told}, {counted(counts['outliers'], 'outlier')}, "
        f"{counted(counts['inseparable_classes'], 'pair')} of classes not told apart "
        f"-> {out_dir}"
    )
    found = [counted(counts[name], *FAULTS[name]) for name in fail_on if counts[name]]
    if found:
        raise click.ClickException(
            f"--fail-on: expected none, received {'; '.join(found)}: see {out_dir / 'duplicates.csv'}, and exclude the "
            "wrong ones with `headstart prepare --exclude`"
        )


if __name__ == "__main__":
    audit()
