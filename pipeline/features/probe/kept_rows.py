"""The rows of the recommended cut, which the probe has computed: kept, so that `extract` forwards only other photos.

In float32 a network with many outputs gives each of them as the network that ends there does.
"""

import logging
import uuid
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BusyError, StorageError
from pipeline.features import spec
from pipeline.features.cache.row_cache import SHARD_ROWS, RowCache
from pipeline.features.cache.shard_writer import ShardWriter
from pipeline.features.resolve import Plan
from pipeline.photos.augmentation import UNCHANGED

LOG: Final = logging.getLogger(__name__)


def keep(plan: Plan, cache: Path, digests: NDArray[np.uint8], features: NDArray[np.float16]) -> None:
    """Keep the rows that the cache lacks. Where they cannot be kept, a warning says why, and `extract` computes them.

    A row that float16 hardly tells from 0 is left to `extract`, which says what is wrong with it.

    Parameters
    ----------
    plan : Plan
        Of the recommended cut and pooling, in float32.
    cache : Path
        The cache folder.
    digests : ndarray of shape (n, 32), uint8
    features : ndarray of shape (n, features), float16
        Finite.
    """
    rows = RowCache(cache, spec=spec.canonical(plan.spec), dtype=plan.spec["dtype"], view=UNCHANGED)
    told = np.abs(features).max(axis=1, initial=0) >= np.finfo(np.float16).smallest_normal
    try:
        with rows.writer(0.0, 1.0, uuid.uuid4().hex):
            lacking = np.flatnonzero(told & rows.index().missing(digests))
            with ShardWriter(rows) as writer:
                for start in range(0, len(lacking), SHARD_ROWS):
                    some = lacking[start : start + SHARD_ROWS]
                    writer.put(digests[some], features[some])
    except (BusyError, StorageError) as error:
        LOG.warning("the features of the sample are not kept, and will be computed again: %s", error)
