"""``headstart probe``: where to cut, and which base, before the long run."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.photos.remote import Root
from stages.console import Stage, progress
from stages.options import settings
from stages.options.param_types import FloatRange
from stages.options.paths import PLACE

if TYPE_CHECKING:
    from pipeline.features.resolve import Settings

AUTO = "auto"


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("cut_json", metavar="CUT.json", type=click.Path(path_type=Path))
@click.option(
    "--cut",
    default=AUTO,
    show_default=True,
    help="auto finds one; anything else is written as it is, and nothing is probed.",
)
@click.option(
    "--pooling",
    type=click.Choice([AUTO, "avg", "max", "grid2", "grid3", "flatten", "none"]),
    default=AUTO,
    show_default=True,
    help="auto compares avg, max, grid2 and grid3, or is avg under a given --cut.",
)
@settings.base
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME[@SIZE][=WEIGHTS]",
    help="Probe this backbone too, and compare accuracy and speed. Repeatable.",
)
@click.option(
    "--sample", type=click.IntRange(min=2), default=2000, show_default=True, help="Images of train and val at most."
)
@click.option(
    "--margin",
    type=FloatRange(min=0, max=1),
    default=0.01,
    show_default=True,
    help="Accuracy that a cheaper cut, or a faster base, may cost at most; it must be shown to cost no more.",
)
@click.option(
    "--confidence",
    type=FloatRange(min=0.5, max=1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="That no cut, pooling or base is wrongly shown to be better or no worse, whatever their number.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@settings.cache
def probe(images: Root, manifest: Path, cut_json: Path, cut: str, pooling: str, **options: Any) -> None:
    """Find where to cut the base for the IMAGES of MANIFEST.csv, and write it to CUT.json for `extract`.

    Beside it go layers.csv and layers.png: the accuracy of a quick head at every cut and pooling, and what each costs;
    and backbones.csv and backbones.png: the bases of --compare.
    """
    from pipeline.features.probe import probe
    from pipeline.features.probe.probe import preferred
    from pipeline.features.probe.recommendation import Proof

    proof = Proof(options.pop("margin"), options.pop("confidence"))
    compared, engine, sample = options.pop("compare"), options.pop("engine"), options.pop("sample")
    if cut != AUTO:
        if compared:
            raise click.UsageError("--compare wants --cut auto, since a cut belongs to one backbone")
        pooling = "avg" if pooling == AUTO else pooling
        layer, _ = probe.echo(cut_json, backbone=options["backbone"], cut=cut, pooling=pooling)
        click.echo(f"{layer} with {pooling}, as given -> {cut_json}")
        return
    if pooling in ("flatten", "none"):
        raise click.UsageError(
            f"--pooling: expected auto, avg, max, grid2 or grid3 with --cut auto, received {pooling}"
        )
    run = {name: options.pop(name) for name in ("batch_size", "cache")}
    bases = list(_bases(compared, options))
    poolings = probe.POOLINGS if pooling == AUTO else (pooling,)
    with progress("images") as advance:
        asked = {"poolings": poolings, "sample": sample, "proof": proof, "engine": engine}
        finding, contenders = probe.probe(images, manifest, cut_json, bases, progress=advance, **asked, **run)
    for one in contenders:
        judged = one.finding.recommendation.chosen
        low, high = judged.interval
        click.echo(
            f"{one.name}: {judged.accuracy:.3f} [{low:.3f}, {high:.3f}], "
            f"{one.images_per_second:,.0f} images a second, {one.seconds:,.0f} s for all {one.images:,}"
        )
    if contenders:
        click.echo(preferred(contenders, proof)[1])
    click.echo(f"{len(finding.judged)} candidates: {finding.recommendation.why} -> {cut_json}")


def _bases(compared: tuple[str, ...], options: dict[str, Any]) -> Iterator["Settings"]:
    """Yield the base of the options, and after it those that are compared, else with the same options."""
    from pipeline.features.resolve import Settings

    seed = options.pop("weights_seed")
    first = Settings(**options, seed=seed, cut="top", pooling="avg", precision="float32", dtype="auto")
    yield first
    for text in compared:
        found = re.fullmatch(r"([^@=]+)(?:@([1-9][0-9]*))?(?:=(.+))?", text)
        if not found:
            raise click.UsageError(f"--compare: expected NAME, NAME@SIZE, NAME=WEIGHTS or both, received {text!r}")
        name, size, weights = found.groups()
        side = int(size) if size else None
        yield replace(first, backbone=name, size=side, weights=weights or "imagenet", alpha=1.0)


if __name__ == "__main__":
    probe()
