"""Places on the command line: of images, a folder or an address such as ``s3://bucket/photos``; of what is written."""

from pathlib import Path
from typing import Any, Final

import click

from pipeline.photos.remote import Root, located


class Place(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no argument
    """A folder or an address; a `Path` or an `Address` in Python."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Root:
        """Return the place that a text names."""
        return located(value) if isinstance(value, str) else value


PLACE: Final = Place()
# Of results: what stands there and is of the other kind is refused before any work.
FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False)
