"""``headstart extract``: the forward pass, once an image."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from stages.console import Stage, progress


@click.command(cls=Stage)
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("features", type=click.Path(path_type=Path))
@click.option("--backbone", default="efficientnet_lite0", show_default=True, help="A name from `headstart backbones`.")
@click.option("--alpha", default=1.0, show_default=True, help="Width multiplier, for backbones that have one.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, none (random), or a file.")
@click.option("--weights-seed", default=0, show_default=True, help="Seed of random weights.")
@click.option("--size", type=click.IntRange(min=1), help="Side of the input, px.  [default: the backbone's own]")
@click.option(
    "--resize",
    type=click.Choice(["squash", "crop", "pad"]),
    default="squash",
    show_default=True,
    help="How a rectangle becomes a square: stretched, its centre, or whole on black.",
)
@click.option("--cut", default="top", show_default=True, help="The layer whose output is kept; `backbones NAME` lists.")
@click.option(
    "--pooling",
    type=click.Choice(["avg", "max", "grid2", "grid3", "flatten", "none"]),
    default="avg",
    show_default=True,
    help="What becomes of the layer's map.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the arithmetic; one that this processor would run as another is refused.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float16", "float32"]),
    default="auto",
    show_default=True,
    help="As stored; auto is float16 for pooled features, float32 for whole maps.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is OpenVINO on a CPU, TensorFlow on a GPU.",
)
@click.option("--views", type=click.IntRange(min=1), default=1, show_default=True, help="Rows an image: 1 is itself.")
@click.option(
    "--flip",
    type=click.Choice(["none", "horizontal", "vertical", "both"]),
    default="none",
    show_default=True,
    help="Views: mirrored, each way with probability one half.",
)
@click.option("--rotation", default=0.0, show_default=True, help="Views: turned by at most this part of a full turn.")
@click.option("--zoom", default=0.0, show_default=True, help="Views: nearer or farther by at most this fraction.")
@click.option("--shift", default=0.0, show_default=True, help="Views: moved by at most this fraction of the side.")
@click.option("--brightness", default=0.0, show_default=True, help="Views: by at most this fraction of white.")
@click.option("--contrast", default=0.0, show_default=True, help="Views: by at most this fraction.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@click.option("--cache", type=click.Path(path_type=Path), help="[default: $HEADSTART_CACHE, else .headstart]")
@click.option("--report", type=click.Path(path_type=Path), help="Write what was done as JSON.")
def extract(
    images: Path,
    manifest: Path,
    features: Path,
    engine: str,
    views: int,
    batch_size: int,
    cache: Path | None,
    report: Path | None,
    weights_seed: int,
    **options: Any,
) -> None:
    """Run the frozen base once over the IMAGES of MANIFEST and keep its features in FEATURES.

    Rows computed before, under the same settings, come from the cache.
    """
    from pipeline import extraction, row_cache
    from pipeline.views import Policy

    policy = Policy(**{field.name: options.pop(field.name) for field in dataclasses.fields(Policy)})
    plan = extraction.plan(extraction.Settings(seed=weights_seed, **options), engine=engine)
    with progress("rows") as advance:
        done = extraction.extract(
            images,
            manifest,
            features,
            plan,
            views=views,
            policy=policy,
            cache=cache or row_cache.default_root(Path.cwd()),
            batch_size=batch_size,
            progress=advance,
            report_path=report,
        )
    each = f" in {done.views} views" if done.views > 1 else ""
    rate = f" at {done.images_per_second:,.0f} a second" if done.computed else ""
    click.echo(
        f"{done.distinct:,} images{each}: {done.computed:,} computed{rate}, {done.reused:,} reused -> {features}"
    )


if __name__ == "__main__":
    extract()
