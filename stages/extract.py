"""``headstart extract``: the forward pass, once an image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.photos.remote import Root
from stages.console import Stage, progress
from stages.options import settings
from stages.options.paths import FILE, PLACE

if TYPE_CHECKING:
    from pipeline.features.extract import Report
    from pipeline.features.workers.partition import Part


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("features", type=click.Path(path_type=Path))
@settings.settings
@settings.views
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@settings.executor
@click.option(
    "--shard", metavar="I/N", callback=lambda _, __, text: _part(text), help="Only the I-th of N parts, from 0."
)
@click.option("--plan", "planned", is_flag=True, help="Only say what is missing and how long it takes.")
@settings.cache
@click.option("--report", type=FILE, help="Write what was done as JSON.")
def extract(
    images: Root,
    manifest: Path,
    features: Path,
    views: int,
    batch_size: int,
    shard: "Part",
    planned: bool,
    cache: Path,
    report: Path | None,
    **chosen: Any,
) -> None:
    """Run the frozen base once over the IMAGES of MANIFEST and keep its features in FEATURES.

    Rows computed before, under the same settings, come from the cache. With --shard rows are computed and FEATURES is
    left alone: when all parts are done, the same command without --shard assembles it.
    """
    from pipeline.features import extract
    from pipeline.features.cache import inventory

    if planned:
        _forecast(images, manifest, views, batch_size, shard, cache, chosen)
        return
    with settings.executor_of(chosen) as executor, progress("rows") as advance:
        policy, plan = settings.policy(chosen), settings.plan(chosen)
        done = extract.extract(
            images,
            manifest,
            features,
            plan,
            views=views,
            policy=policy,
            cache=cache,
            batch_size=batch_size,
            progress=advance,
            report_path=report,
            executor=executor,
            part=shard,
        )
    click.echo(_summary(done, features if shard.of == 1 else cache))
    if done.computed and not done.reused and (reason := inventory.explain(cache, plan.spec)):
        click.echo(f"nothing was cached under these settings: {reason}")


def _summary(done: "Report", where: Path) -> str:
    each = f" in {done.views} views" if done.views > 1 else ""
    rate = f" at {done.images_per_second:,.0f} a second" if done.computed else ""
    lines = [f"{done.distinct:,} images{each}: {done.computed:,} computed{rate}, {done.reused:,} reused -> {where}"]
    if len(done.workers) > 1:
        lines += [
            f"  process {worker.pid} on {worker.host}: {worker.images:,} at {worker.images_per_second:,.0f} a second"
            for worker in done.workers
        ]
    if done.lost:
        lines.append(f"  {done.lost:,} times a worker was lost, and its rows were computed again")
    return "\n".join(lines)


def _forecast(
    images: Root, manifest: Path, views: int, batch_size: int, shard: "Part", cache: Path, chosen: dict[str, Any]
) -> None:
    from pipeline.features import throughput
    from pipeline.features.workers.worker import job_of

    policy, plan = settings.policy(chosen), settings.plan(chosen)
    job = job_of(images, plan, views=views, policy=policy, cache=cache, batch_size=batch_size, engine=None)
    found = throughput.forecast(job, manifest, part=shard)
    each = f" in {views} views" if views > 1 else ""
    click.echo(f"{found.images:,} images{each}: {found.rows:,} rows, {found.missing:,} of them missing")
    click.echo(
        f"on disk: {found.cached_bytes / 1e6:,.1f} MB of rows, {found.missing_bytes / 1e6:,.1f} MB more to come, and "
        f"{found.features_bytes / 1e6:,.1f} MB of features"
    )
    for machines in sorted({1, chosen["workers"] or 1}):
        name = "1 machine" if machines == 1 else f"{machines:,} machines, at best"
        click.echo(
            f"{name}: {_time(found.hours(machines))} at {found.images_per_second * machines:,.0f} images a second"
        )
    click.echo(f"speed of one machine: {found.source}")


def _time(hours: float) -> str:
    """Return a time in the unit in which it is not below 2."""
    for unit, length in (("hours", 1.0), ("minutes", 60.0)):
        if hours * length >= 2:
            return f"{hours * length:,.1f} {unit}"
    return f"{hours * 3600:,.0f} seconds"


def _part(text: str | None) -> "Part":
    from pipeline.features.workers.partition import EVERYTHING, Part

    if text is None:
        return EVERYTHING
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise click.BadParameter(f"expected I/N with I from 0 to N - 1, received {text!r}", param_hint="--shard")
    return Part(int(number), int(of))


if __name__ == "__main__":
    extract()
