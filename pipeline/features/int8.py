"""The graph that computes features in int8: looked up in the cache, or calibrated there on the first training photos.

::

    <root>/weights/<sha256>              the graph; the sha256 stands in the spec
    <root>/calibrated/<base>.json        the graphs that were made of one base, cut at one layer

A graph is never made anew because photos were added: one fits a manifest that has half of its photos still. Another set
of photos gets a graph of its own.
"""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines import graphs, int8
from pipeline.backbones.weights import Weights
from pipeline.errors import ArtefactError, ImageError, InputError, StorageError, storing
from pipeline.features import spec
from pipeline.features.cache import kept_weights
from pipeline.features.resolve import Plan, trunk, with_graph
from pipeline.photos import batches as reading
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.storage import digests, json_files, locks
from pipeline.storage.json_files import SHA256, Document, each

FOLDER: Final = "calibrated"
GRAPHS: Final = Document("the list of calibrated graphs", "`hs.extract`", {"graphs": each(SHA256)})
PHOTOS: Final = 300
LARGEST: Final = 2**28  # bytes of all their pixels: of photos above 546 px fewer will do, and each has more places
KNOWN: Final = 0.5
WAIT_SECONDS: Final = 0.2
LOG: Final = logging.getLogger(__name__)


def settled(plan: Plan, root: Root, table: Manifest, cache: Path) -> Plan:
    """Return the plan with the graph that computes its features, which is made if there is none; in int8 only.

    Parameters
    ----------
    plan : Plan
    root : Path or Address
        The image root.
    table : Manifest
        Calibrated is on the first of its distinct training photos, in the order of their digests.
    cache : Path
        The cache folder. Another process that makes the same graph is waited for.

    Raises
    ------
    InputError
        NNCF is not installed, or no training photo can be read.
    StorageError
        The cache cannot be written.
    """
    if (found := known(plan, table, cache)) is not plan or plan.spec["precision"] != "int8":
        return found
    int8.require_quantiser()
    place = _place(plan, cache)
    with storing(f"{place}: cannot be written"), _alone(place.with_suffix("")):
        if (found := known(plan, table, cache)) is plan:
            made = _make(plan, root, table, cache)
            json_files.publish(place, {"graphs": [*_listed(place), made.sha256]})
            found = with_graph(plan, made)
        return found


def known(plan: Plan, table: Manifest, cache: Path) -> Plan:
    """Return the plan with the graph that fits a manifest best; the plan itself if none fits, and not in int8."""
    if plan.spec["precision"] != "int8" or plan.graph:
        return plan
    there, best = {digest.tobytes() for digest in table.digests}, (KNOWN, plan)
    for sha256 in _listed(_place(plan, cache)):
        if path := kept_weights.find(cache, sha256):
            used = int8.photos(path)
            share = sum(digest in there for digest in used) / len(used)
            best = max(best, (share, with_graph(plan, Weights(path, sha256, None))), key=lambda one: one[0])
    return best[1]


def _place(plan: Plan, cache: Path) -> Path:
    """Return where the graphs are listed of a base and a cut: pooling and dtype come after the graph."""
    base = spec.identity({**plan.spec, "pooling": "none", "dtype": "float32"})
    return cache / FOLDER / f"{base}.json"


def _listed(place: Path) -> list[str]:
    try:
        return list(GRAPHS.read(place)["graphs"]) if place.exists() else []
    except ArtefactError:  # damaged: the graph is made again
        return []


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes a graph of the same base; others wait for this one while the block runs."""
    with contextlib.ExitStack() as held:
        while True:
            with locks.mutex(folder):
                if not locks.cleared(folder):
                    held.enter_context(locks.entered(folder, 0.0, 1.0))
                    break
            time.sleep(WAIT_SECONDS)
        yield


def _make(plan: Plan, root: Root, table: Manifest, cache: Path) -> Weights:
    started = time.monotonic()
    chosen, pixels = _photos(plan, root, table)
    model = graphs.graph(partial(trunk, plan, pooling="none"), kept=None)
    model = int8.quantised(model, pixels)
    folder = cache / kept_weights.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            path = Path(aside) / "graph"
            int8.write(model, chosen, path)
            sha256 = digests.of_file(path)
            kept_weights.copy(path, folder / sha256, sha256)
    except RuntimeError as error:
        raise StorageError(f"{folder}: cannot be written: {' '.join(str(error).split())}") from error
    LOG.info("calibrated for int8 on %d photos in %.1f s", len(chosen), time.monotonic() - started)
    return Weights(folder / sha256, sha256, None)


def _photos(plan: Plan, root: Root, table: Manifest) -> tuple[list[bytes], NDArray[np.uint8]]:
    """Return the sha256 and the pixels, (n, size, size, 3), to calibrate on; what cannot be read is left out."""
    train = table.learned()[0]
    photos = reading.of_manifest(root, train.take(range(min(len(train), PHOTOS, LARGEST // (3 * plan.size**2) + 1))))
    reasons: list[str] = []

    def failed(place: int, error: ImageError) -> None:
        reasons.append(f"{photos.paths[place]} ({error})")

    found: list[Any] = list(reading.batches(photos, plan.fit, batch_size=graphs.GRAPH_IMAGES, failed=failed))
    if not found:
        raise InputError(
            f"{root}: expected training photos to calibrate int8 on, received {'; '.join(reasons[:3]) or 'none'}"
        )
    places = np.concatenate([batch.places for batch in found])
    return [train.digests[place].tobytes() for place in places], np.concatenate([batch.pixels for batch in found])
