"""``headstart serve``: a page to try a head or a model on, and an HTTP interface to it."""

from pathlib import Path
from typing import Any

import click

from pipeline.inference.serving.settings import ServeSettings
from stages.console import Stage, tell, warn
from stages.options.of_settings import options, settings_of


@click.command(cls=Stage)
@click.argument("trained", metavar="HEAD_DIR|MODEL_DIR", type=click.Path(path_type=Path))
@options(ServeSettings)
def serve(trained: Path, **chosen: Any) -> None:
    """Serve a trained head or a model: a page, and an HTTP interface.

    With --features and --manifest the page shows the most similar training photos, too, and how familiar a photo is.
    """
    from pipeline.inference.serving import needed_packages

    needed_packages.require_installed()
    from pipeline.inference.serving import limits, model_service, routes, server

    settings = settings_of(ServeSettings, chosen)
    answering = model_service.Service(trained, settings)
    for warning in answering.warnings:
        warn(warning)
    bounds = limits.Limits(
        body_bytes=settings.max_bytes,
        instances=settings.max_images,
        at_once=settings.at_once,
        seconds=settings.timeout,
    )
    called = settings.name or trained.resolve().name
    if "/" in called or ":" in called:
        raise click.BadParameter(f"expected a name without / and :, received {called!r}", param_hint="--name")
    application = routes.create_app(
        answering,
        name=called,
        limits=bounds,
        batch_size=settings.batch_size,
        batch_wait=settings.batch_wait,
        hosts=server.hosts(settings.host),
    )
    server.serve(
        application,
        host=settings.host,
        port=settings.port,
        seconds=settings.timeout,
        told=lambda address: tell(f"serving {called} at {address}"),
    )


if __name__ == "__main__":
    serve()
