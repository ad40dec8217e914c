"""The place of images on the command line: a folder, or an address such as ``s3://bucket/photos``."""

from typing import Any

import click

from pipeline.addresses import Root, located


class Place(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no argument
    """A folder or an address; a `Path` or an `Address` in Python."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Root:
        """Return the place that a text names."""
        return located(value) if isinstance(value, str) else value


PLACE = Place()
