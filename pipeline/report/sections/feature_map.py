"""The map of the features, a dot an image, coloured by class, the mistakes ringed; and each picture's neighbours."""

import math
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.features.features_file import Features
from pipeline.features.lazy_rows import Selection
from pipeline.report import charts, projection
from pipeline.report.projection import Plane
from pipeline.report.sections.gallery import Gallery
from pipeline.report.settings import Method

ROWS_BYTES: Final = 2**28  # of features in memory, of which three copies are made
NAMED: Final = 20  # classes whose names stand on the map, and that have a button each


@dataclass(frozen=True)
class Mapped:
    """How the features of the images that have a picture lie to one another.

    Attributes
    ----------
    gallery : Gallery
    laid : Future of Plane
        A place for each of ``gallery.mapped``, once it was computed.
    near : ndarray of shape (n, k), int
        Numbers of each picture's neighbours, the nearest first.
    cosines : ndarray of shape (n, k), float32
    spec : dict
        Of the features.
    """

    gallery: Gallery
    laid: Future[Plane]
    near: NDArray[np.intp]
    cosines: NDArray[np.float32]
    spec: dict[str, Any]

    @property
    def plane(self) -> Plane:
        """The places; whoever asks first waits for them."""
        return self.laid.result()


def room(path: Path) -> int:
    """Return the features of how many images fit in memory; ArtefactError if the file is missing or damaged."""
    with Features(path) as features:
        return max(1, ROWS_BYTES // (4 * max(1, int(np.prod(features.row_shape)))))


def lay_out(path: Path, shown: Gallery, *, method: Method, neighbours: int, seed: int) -> Mapped:
    """Lay out the features of the images that have a picture, in the background; parameters as in `ReportSettings`.

    ArtefactError if the file is damaged, lacks images, or holds NaN or infinity.
    """
    with Features(path) as features:
        rows = Selection(features, features.places(shown.images.digests), shown.images.paths, views=1)[:]
        near, cosines = projection.nearest(rows, neighbours)
        laid = _begun(partial(projection.plane, rows[shown.mapped], method=method, seed=seed))
        return Mapped(shown, laid, near, cosines, features.spec)


def _begun(make: Callable[[], Plane]) -> Future[Plane]:
    """Call a function in a thread, which ends with the process: t-SNE takes one core, and nobody waits who stops."""
    made: Future[Plane] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001  (whoever asks for the result gets it)
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made


def section(found: Mapped, classes: Sequence[str], wrong: Collection[bytes], total: int) -> dict[str, Any]:
    """Return what the page says of the map.

    `wrong` are digests of images to be ringed; `total` counts distinct images.
    """
    shown, places = found.gallery, found.plane.places
    labels = np.array([shown.images.labels[number] for number in shown.mapped])
    ringed = np.array([shown.images.digests[number].tobytes() in wrong for number in shown.mapped], bool)
    named = len(classes) <= NAMED
    return {
        "count": len(places),
        "all": total,
        "method": found.plane.method,
        "height": round(charts.on_plane(np.array([[0.0, places[:, 1].max(initial=0.0)]]))[0, 1] + charts.PLANE_MARGIN),
        "dot": _dot(len(places)),
        "rings": charts.dots(places[ringed], "rings"),
        "cores": charts.dots(places[ringed], "cores"),
        "ringed": bool(ringed.any()),
        "few": named,
        "classes": [
            {"label": label, "number": place, **_class(places[labels == label], place, named=named)}
            for place, label in enumerate(classes)
        ],
    }


def _dot(count: int) -> int:
    """Return the size of a dot, in units of the map: smaller for many."""
    return max(5, min(16, round(400 / math.sqrt(max(count, 1)))))


def _class(places: NDArray[np.float64], place: int, *, named: bool) -> dict[str, Any]:
    dots = charts.dots(places, f"dots {charts.colour(place)}", place)
    if not named or not len(places):
        return {"dots": dots, "x": None, "y": None}
    x, y = charts.on_plane(np.median(places, axis=0, keepdims=True))[0]
    return {"dots": dots, "x": f"{min(max(x, 90), 910):.0f}", "y": f"{y:.0f}"}
