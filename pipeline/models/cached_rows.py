"""Views of photos through a model, none of them twice through what lies below its tail.

What training left as it was, the base below the cut, gives every model trained above that cut the same activations.
They are rows of the cache, in float32, as training read them: what is there is not computed again, and what is missing
is computed once and kept. Only the tail, which training changed, runs for each model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, BusyError, CutError, InputError, StorageError, WeightsError
from pipeline.features import extract, resolve
from pipeline.features.settings import ExtractSettings, FeatureSettings
from pipeline.features.workers.executors.executor import open_executor
from pipeline.features.workers.partition import EVERYTHING
from pipeline.features.workers.retry import Completion
from pipeline.features.workers.worker import job_of
from pipeline.models.classifier import Classifier, ModelClassifier
from pipeline.models.outputs import Probabilities
from pipeline.photos.batches import of_manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy
from pipeline.storage.digests import as_keys, find
from pipeline.types import Progress


class Found(NamedTuple):
    """What a classifier gives for views of n photos.

    Attributes
    ----------
    probabilities : ndarray of shape (n, views, K)
        Calibrated.
    forwarded : int
        Views that ran through the base: the others were rows of the cache.
    warnings : list of str
        Why rows could not be used, if they could not.
    """

    probabilities: Probabilities
    forwarded: int
    warnings: list[str]


@dataclass(frozen=True)
class Views:
    """How many views of each photo, the photo itself first, and what may happen to it in the others."""

    count: int = 1
    policy: Policy | None = None


def predict_views(trained: Classifier, root: Root, table: Manifest, views: Views, progress: Progress) -> Found:
    """Return probabilities of distinct photos: by rows below the tail where there is one, else by the whole network.

    Rows need a cache that can be written and the weights of the base. Without them the whole network runs, and a
    warning says so: the probabilities are the same up to rounding.

    Parameters
    ----------
    trained : Classifier
    root : Path or Address
        The image root.
    table : Manifest
    views : Views
    progress : callable
        Called with (views done, views), first while rows are computed.

    Raises
    ------
    InputError
        A photo that must be read cannot be, or is not what it was; names it.
    """
    warnings = []
    cache = trained.runtime.cache
    if cache and isinstance(trained, ModelClassifier) and trained.cut:
        try:
            return _by_rows(trained, root, table, views, cache, progress)
        except (ArtefactError, BusyError, CutError, StorageError, WeightsError) as error:
            warnings = [f"the photos ran through the whole network: {error}"]
    each = trained.predict_views(of_manifest(root, table, views.policy), views.count, progress)
    return Found(each, len(table) * views.count, warnings)


def _by_rows(
    trained: ModelClassifier, root: Root, table: Manifest, views: Views, cache: Path, progress: Progress
) -> Found:
    count = views.count
    settings = ExtractSettings(
        **vars(_below(trained)),
        views=count,
        tta=count > 1,
        policy=views.policy or Policy(),
        batch_size=trained.runtime.batch_size,
        cache=cache,
    )
    found = np.empty((len(table), count, len(trained.classes)))
    with open_executor(settings.executing) as executor:
        run = Completion(job_of(root, settings), table, part=EVERYTHING, executor=executor, progress=progress)
        extract.finish(run, partial(_through_tail, trained, run, found, progress))
    for place, reason in run.failures.items():
        raise InputError(f"{root / run.paths[place]}: expected an image: {reason}")
    places, _ = find(as_keys(run.digests), table.digests)
    return Found(found[places], run.computed, [])


def _below(trained: ModelClassifier) -> FeatureSettings:
    """Return the settings of the rows that the tail takes, as training had them."""
    weights = {name: value for name, value in trained.spec["weights"].items() if name != "finetuned"}
    how = resolve.Again(None, trained.runtime.engine, "float32", trained.runtime.cache)
    plan, _ = resolve.plan_again({**trained.spec, "weights": weights}, trained.path, how)
    return resolve.at_cut(plan, str(trained.cut))


def _through_tail(trained: ModelClassifier, run: Completion, found: Probabilities, progress: Progress) -> None:
    """Fill in the probabilities of all rows of a run, (n, views, K)."""
    engine, size = trained.open("tail"), trained.runtime.batch_size
    for view, rows in enumerate(run.rows):
        done = 0
        for given in engine.run(_batches(rows.blocks(rows.index(), run.digests), size)):
            found[done : done + len(given), view] = trained.outputs(given, "tail").probabilities
            done += len(given)
            progress(view * len(found) + done, found.shape[0] * found.shape[1])


def _batches(blocks: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    for block in blocks:
        yield from (block[start : start + size] for start in range(0, len(block), size))
