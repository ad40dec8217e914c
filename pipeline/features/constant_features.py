"""Whether features differ from image to image, as they must for anything to be learned from them."""

from pathlib import Path
from typing import Final

import numpy as np

from pipeline.features.features_file import Features

SAMPLED: Final = 64  # images whose features are compared
ONE_LINE: Final = 1e-6  # of the variance: what float16 leaves beside the line is less


def constant_rows(path: Path) -> list[str]:
    """Return a warning if the features of a sample of images are all the same, or differ along one line only."""
    with Features(path) as features:
        rows = features.gather(features.digests[:SAMPLED])
        rows = rows.reshape(len(rows), -1).astype(np.float64)
    rows -= rows.mean(axis=0)
    spread = np.linalg.eigvalsh(rows @ rows.T)[::-1]
    if len(rows) < 3 or spread[1] > ONE_LINE * spread[0]:
        return []
    what = "differ along one line only" if spread[0] > 0 else "are all the same"
    return [
        f"{path}: the features of {len(rows)} images {what}, so that little can be learned from them: look at them, "
        "or choose another `cut`, `size` or `weights`"
    ]
