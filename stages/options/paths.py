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


class Output(click.Path):
    """Where a result goes: not to what the command reads, and a folder not among the photos, which would be next."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; what was named before it is what the command reads."""
        path = Path(str(super().convert(value, param, ctx)))
        read = {} if ctx is None else {name: one for name, one in ctx.params.items() if isinstance(one, Path)}
        for name, one in read.items():
            if one.exists() and path.exists() and one.samefile(path):
                self.fail(f"expected another place than that of {name.upper()}, which is read, received {value}")
        images = read.get("images")
        among = images is not None and images.is_dir() and path.resolve().is_relative_to(images.resolve())
        if among and isinstance(param, click.Argument) and not self.file_okay:
            self.fail(f"expected a folder outside the photos in {images}, received {value}")
        return path


PLACE: Final = Place()
# Of results: what stands there and is of the other kind is refused before any work.
FILE: Final = Output(path_type=Path, dir_okay=False)
FOLDER: Final = Output(path_type=Path, file_okay=False)
