"""The pictures that a step has drawn, for a notebook to show."""

from pathlib import Path


class Picture:
    """A picture that a step has drawn: a notebook shows it, elsewhere its path is printed.

    Attributes
    ----------
    path : Path
        A PNG file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        """Return the path."""
        return str(self.path)

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


class Pictures(dict[str, Picture]):
    """Pictures by name."""

    @classmethod
    def of(cls, folder: Path) -> "Pictures":
        """Return those in a folder and in ``plots`` below it, by the names of their files without ``.png``."""
        found = [*folder.glob("*.png"), *folder.glob("plots/*.png")]
        return cls({path.stem: Picture(path) for path in sorted(found)})

    def __missing__(self, name: str) -> Picture:
        """Raise KeyError, which names the pictures that there are."""
        raise KeyError(f"expected one of the pictures {', '.join(self) or '(none were drawn)'}, received {name}")
