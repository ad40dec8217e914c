"""``headstart audit``: copies, leaks, contradictions, wrong labels, outliers and classes that look alike."""

from pathlib import Path

import click

from pipeline.photos.remote import Root
from pipeline.photos.settings import PrepareSettings
from stages.console import Stage, progress
from stages.options.of_settings import options
from stages.options.param_types import FloatRange
from stages.options.paths import PLACE

FAULTS = {
    "leakage": "test images whose picture is also in train or val",
    "conflicts": "pictures with different labels",
}


def _faults(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Turn ``leakage,conflicts`` or ``none`` into names of faults."""
    names = () if text == "none" else tuple(text.split(","))
    if not set(names) <= set(FAULTS):
        raise click.BadParameter(f"expected some of {', '.join(FAULTS)}, or none; received {text!r}", ctx, parameter)
    return names


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--fail-on",
    default="none",
    show_default=True,
    callback=_faults,
    help="End with status 1, after all is written, on leakage, conflicts or both.",
)
@options(PrepareSettings, only=("hash_distance",))
@click.option(
    "--min-cosine",
    type=FloatRange(0.0, 1.0, min_open=True),
    default=0.9,
    show_default=True,
    help="Pictures whose centred features are this close are listed as alike.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="An outlier is far from its neighbour of this rank.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Of the heads that judge labels.")
@click.option(
    "--C",
    "C",
    type=FloatRange(0.0, min_open=True),
    default=0.01,
    show_default=True,
    help="Inverse strength of the penalty of the heads that judge labels.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the folds.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that decode.  [default: one a core]")
def audit(
    images: Root,
    manifest: Path,
    features: Path,
    out_dir: Path,
    fail_on: tuple[str, ...],
    hash_distance: int,
    min_cosine: float,
    neighbours: int,
    folds: int,
    C: float,
    seed: int,
    workers: int | None,
) -> None:
    """Look for faults in the data, and write tables and pictures of them to OUT_DIR."""
    from pipeline import audit as auditing
    from pipeline import heads

    rules = auditing.Rules(
        hash_distance=hash_distance, min_cosine=min_cosine, neighbours=neighbours, folds=folds, seed=seed
    )
    head = heads.LogisticHead(C=C, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=seed)
    with progress("images") as report:
        counts = auditing.audit(
            images, manifest, features, out_dir, rules=rules, head=head, workers=workers, progress=report
        )
    certain = counts["same_bytes"] + counts["same_pixels"] + counts["near_duplicates"]
    click.echo(
        f"{counts['images']:,} images: {certain:,} copies, {counts['leakage']:,} in test of what is learned from, "
        f"{counts['conflicts']:,} pictures with different labels, {counts['label_issues']:,} labels likely wrong, "
        f"{counts['outliers']:,} outliers, {counts['inseparable_classes']:,} pairs of classes not told apart "
        f"-> {out_dir}"
    )
    found = [f"{counts[name]:,} {FAULTS[name]}" for name in fail_on if counts[name]]
    if found:
        raise click.ClickException(
            f"--fail-on: expected none, received {'; '.join(found)}: see {out_dir / 'duplicates.csv'}, and exclude the "
            "wrong ones with `headstart prepare --exclude`"
        )


if __name__ == "__main__":
    audit()
