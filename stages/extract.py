"""``headstart extract``: the forward pass, once an image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import SettingError
from pipeline.features.settings import ExtractSettings
from pipeline.photos.remote import Root
from pipeline.wording import counted, duration
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, PLACE

if TYPE_CHECKING:
    from pipeline.features.extract import ExtractResult


@click.command(cls=Stage, kept="Rows computed so far are in the cache; the same command goes on from them.")
@click.argument("images", type=PLACE)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("features", type=FILE)
@options(ExtractSettings, but=("cache",))
@click.option("--plan", "planned", is_flag=True, help="Only say what is missing and how long it will take.")
@options(ExtractSettings, only=("cache",))
@click.option("--report", type=FILE, help="Also write what was done to this JSON file.")
def extract(images: Root, manifest: Path, features: Path, planned: bool, report: Path | None, **chosen: Any) -> None:
    """Run the frozen base once over the IMAGES of MANIFEST and keep its features in FEATURES.

    Rows computed before, under the same settings, come from the cache. With --shard rows are computed and FEATURES is
    left alone: when all parts are done, the same command without --shard assembles it.
    """
    from pipeline.features import extract
    from pipeline.features.cache import inventory
    from pipeline.features.int8 import known
    from pipeline.features.resolve import plan
    from pipeline.photos.manifest import read

    if planned and report:
        raise SettingError("`report`: expected without `plan=True`, which computes nothing, received both")
    settings = settings_of(ExtractSettings, chosen, but={"workers"} if planned else ())  # a plan counts machines
    if planned:
        _forecast(images, manifest, settings)
        return
    with progress("rows") as advance:
        done = extract.extract(images, manifest, features, settings, progress=advance, report_path=report)
    for warning in done.warnings:
        warn(warning)
    say(_summary(done, settings, settings.cache if settings.shard else features))
    if done.computed and not done.reused:
        table = read(manifest)
        reason = inventory.explain(settings.cache, known(plan(settings), table, settings.cache).spec, table.digests)
        if reason:
            say(f"nothing was cached under these settings: {reason}")


def _in_views(settings: ExtractSettings) -> str:
    if settings.views == 1:
        return ""
    return f" in {settings.views} views" if settings.tta else f", {settings.views} views of those to learn from"


def _summary(done: "ExtractResult", settings: ExtractSettings, where: Path) -> str:
    each = _in_views(settings)
    rate = f" at {done.images_per_second:,.0f} a second" if done.computed else ""
    lines = [
        f"{counted(done.distinct, 'image')}{each}: {done.computed:,} computed{rate}, {done.reused:,} reused -> {where}"
    ]
    if len(done.workers) > 1:
        lines += [
            f"  process {worker.pid} on {worker.host}: {worker.images:,} at {worker.images_per_second:,.0f} a second"
            for worker in done.workers
        ]
    if done.lost:
        lines.append(f"  a worker was lost {counted(done.lost, 'time')}; its rows were computed again")
    return "\n".join(lines)


def _forecast(images: Root, manifest: Path, settings: ExtractSettings) -> None:
    from pipeline.features import throughput
    from pipeline.features.workers import partition, worker

    found = throughput.forecast(worker.job_of(images, settings), manifest, part=partition.part_of(settings.shard))
    each = _in_views(settings)
    say(f"{counted(found.images, 'image')}{each}: {counted(found.rows, 'row')}, {found.missing:,} of them missing")
    say(
        f"on disk: {found.cached_bytes / 1e6:,.1f} MB of rows, {found.missing_bytes / 1e6:,.1f} MB more to come, and "
        f"{found.features_bytes / 1e6:,.1f} MB of features"
    )
    if not found.missing:
        return  # no time to tell, and perhaps no speed is known
    for machines in sorted({1, settings.executing.workers or 1}):
        name = "1 machine" if machines == 1 else f"{machines:,} machines, at best"
        time, rate = duration(3600 * found.hours(machines)), found.images_per_second * machines
        say(f"{name}: {time} at {rate:,.0f} images a second")
    say(f"speed of one machine: {found.source}")


if __name__ == "__main__":
    extract()
