"""``headstart serve``: a page to try a head or a model on, and an HTTP interface to it."""

from pathlib import Path
from typing import Any

import click

from pipeline.photos.remote import Root
from stages.console import Stage, tell, warn
from stages.options import settings
from stages.options.param_types import FloatRange
from stages.options.paths import PLACE


@click.command(cls=Stage)
@click.argument("trained", metavar="HEAD_DIR|MODEL_DIR", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="0 is any that is free.")
@click.option("--name", help="Of the model in addresses: /v1/models/NAME.  [default: that of its folder]")
@click.option("--features", metavar="FEATURES.h5", type=click.Path(path_type=Path), help="To compare photos with.")
@click.option("--manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path), help="Which of these train.")
@click.option("--images", type=PLACE, help="Where the training photos are, a folder or an address, to show them.")
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Familiarity goes by the distance to the nearest training photo of this rank.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="The most images that run at once."
)
@click.option(
    "--batch-wait",
    type=FloatRange(min=0.0, max=1.0),
    default=0.0,
    show_default=True,
    help="Seconds that a batch which is not full waits for more.",
)
@click.option(
    "--max-bytes", type=click.IntRange(min=1), default=2**24, show_default=True, help="Of the body of a request."
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=50_000_000, show_default=True, help="Of an image.")
@click.option(
    "--max-images", type=click.IntRange(min=1), default=128, show_default=True, help="Of one request; others have one."
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Requests under way; further ones are told to come again.",
)
@click.option(
    "--timeout",
    type=FloatRange(min=0.0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for a request to arrive and be answered.",
)
@settings.trained
@settings.cache
def serve(
    trained: Path,
    host: str,
    port: int,
    name: str | None,
    images: Root | None,
    batch_size: int,
    batch_wait: float,
    max_bytes: int,
    max_pixels: int,
    max_images: int,
    at_once: int,
    timeout: float,
    **options: Any,
) -> None:
    """Serve a trained head or a model: a page, and an HTTP interface.

    With --features and --manifest the page shows the most similar training photos, too, and how familiar a photo is.
    """
    from pipeline.inference.serving import requirements

    requirements.require_installed()
    from pipeline.inference.serving import limits, model_service, routes, server

    answering = model_service.Service(
        trained, batch_size=batch_size, max_pixels=max_pixels, images_root=images, **options
    )
    for warning in answering.warnings:
        warn(warning)
    bounds = limits.Limits(body_bytes=max_bytes, instances=max_images, at_once=at_once, seconds=timeout)
    called = name or trained.resolve().name
    if "/" in called or ":" in called:
        raise click.BadParameter(f"expected a name without / and :, received {called!r}", param_hint="--name")
    application = routes.create_app(
        answering, name=called, limits=bounds, batch_size=batch_size, batch_wait=batch_wait, hosts=server.hosts(host)
    )
    server.serve(
        application, host=host, port=port, seconds=timeout, told=lambda address: tell(f"serving {called} at {address}")
    )


if __name__ == "__main__":
    serve()
