"""``headstart probe``: where to cut, and which base, before the long run."""

from pathlib import Path
from typing import Any

import click

from pipeline.features.settings import AUTO, ProbeSettings
from pipeline.photos.remote import Root
from pipeline.wording import counted, interval
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, PLACE


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("cut_json", metavar="CUT.json", type=FILE)
@options(ProbeSettings)
def probe(images: Root, manifest: Path, cut_json: Path, **chosen: Any) -> None:
    """Find where to cut the base for the IMAGES of MANIFEST.csv, and write it to CUT.json for `extract`.

    Beside it go layers.csv and plots/layers.png: the accuracy of a quick head at every cut and pooling, and what each
    costs; and backbones.csv and plots/backbones.png: the bases of --compare.
    """
    from pipeline.features import spec
    from pipeline.features.probe import probe, results

    settings = settings_of(ProbeSettings, chosen)
    if settings.cut != AUTO:
        layer, pooling = probe.echo(cut_json, settings)
        say(f"{layer} with {pooling}, as given -> {cut_json}")
        return
    with progress("images") as advance:
        finding, contenders = probe.probe(images, manifest, cut_json, settings, progress=advance)
    for warning in spec.random_base(finding.plan.spec):
        warn(warning)
    for one in contenders:
        judged = one.finding.recommendation.chosen
        say(
            f"{one.name}: {interval(judged.accuracy, *judged.interval)}, "
            f"{one.images_per_second:,.0f} images a second, {one.seconds:,.0f} s for all {one.images:,}"
        )
    if contenders:
        say(results.preferred(contenders, settings.proof)[1])
    say(f"{counted(len(finding.judged), 'candidate')}: {finding.recommendation.why} -> {cut_json}")


if __name__ == "__main__":
    probe()
