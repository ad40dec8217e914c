"""``cut.json``: where a base is cut and how the map there is pooled; `probe` writes it, `extract` reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.backbones.cutting import POOLINGS
from pipeline.errors import InputError
from pipeline.storage.json_files import TEXT, Document, one_of, publish

CUT: Final = Document(
    "a cut",
    "`hs.probe`",
    {"backbone": TEXT, "cut": TEXT, "pooling": one_of(*POOLINGS), "why": TEXT},
    version=1,
    sealed=True,
)


def write(path: Path, *, backbone: str, cut: str, pooling: str, why: str, figures: Mapping[str, Any] | None) -> None:
    """Publish a choice. The same arguments give the same bytes.

    Parameters
    ----------
    path : Path
    backbone : str
        The base that the choice is for.
    cut : str
        A layer's name.
    pooling : str
        One of `pipeline.backbones.cutting.POOLINGS`.
    why : str
        One sentence.
    figures : mapping or None
        JSON-able: the numbers behind the sentence; None if nothing was measured.
    """
    chosen = {
        "format": CUT.version,
        "backbone": backbone,
        "cut": cut,
        "pooling": pooling,
        "why": why,
        "figures": figures,
    }
    publish(path, chosen)


def read(path: Path, *, backbone: str) -> tuple[str, str]:
    """Return cut and pooling.

    Parameters
    ----------
    path : Path
        As `write` leaves it.
    backbone : str
        The base that is going to be cut.

    Returns
    -------
    cut, pooling : str

    Raises
    ------
    ArtefactError
        The file is missing or is none of this kind.
    InputError
        The choice was made for another backbone.
    """
    chosen = CUT.read(path)
    its_backbone = chosen["backbone"]
    if its_backbone != backbone:
        raise InputError(
            f"{path}: expected a cut of the backbone {backbone}, received one of {its_backbone}; run `hs.probe` again"
        )
    return chosen["cut"], chosen["pooling"]
