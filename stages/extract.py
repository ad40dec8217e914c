"""``headstart extract``: the forward pass, once an image."""

from pathlib import Path
from typing import Any

import click

from stages import settings
from stages.console import Stage, progress


@click.command(cls=Stage)
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("features", type=click.Path(path_type=Path))
@settings.settings
@settings.views
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@settings.cache
@click.option("--report", type=click.Path(path_type=Path), help="Write what was done as JSON.")
def extract(
    images: Path,
    manifest: Path,
    features: Path,
    views: int,
    batch_size: int,
    cache: Path,
    report: Path | None,
    **chosen: Any,
) -> None:
    """Run the frozen base once over the IMAGES of MANIFEST and keep its features in FEATURES.

    Rows computed before, under the same settings, come from the cache.
    """
    from pipeline import cache_contents, extraction

    policy, plan = settings.policy(chosen), settings.plan(chosen)
    with progress("rows") as advance:
        done = extraction.extract(
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
        )
    each = f" in {done.views} views" if done.views > 1 else ""
    rate = f" at {done.images_per_second:,.0f} a second" if done.computed else ""
    click.echo(
        f"{done.distinct:,} images{each}: {done.computed:,} computed{rate}, {done.reused:,} reused -> {features}"
    )
    if done.computed and not done.reused and (reason := cache_contents.explain(cache, plan.spec)):
        click.echo(f"nothing was cached under these settings: {reason}")


if __name__ == "__main__":
    extract()
