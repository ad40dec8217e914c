"""The default data: scikit-learn's handwritten digits, written as PNG files, one folder a class.

1,797 images of 8 x 8 px with 17 grey levels: the test part of the "Optical Recognition of Handwritten Digits" data
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998), which scikit-learn ships.
"""

import importlib.util
from pathlib import Path

import numpy as np

from pipeline.errors import ArtefactError

GREY_LEVELS = 16
SIDE = 8  # px


def write(folder: Path) -> int:
    """Write every digit as ``<folder>/<digit>/<number>.png``, 8-bit grey, dark background; return how many."""
    from PIL import Image

    table = np.loadtxt(_table(), np.uint8, delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, SIDE, SIDE) * (255 / GREY_LEVELS)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, table[:, -1], strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return len(pixels)


def _table() -> Path:
    """Return the file of scikit-learn, which is not loaded: 64 pixels and a label a line."""
    found = importlib.util.find_spec("sklearn")
    for folder in found.submodule_search_locations or () if found else ():
        if (path := Path(folder) / "datasets" / "data" / "digits.csv.gz").exists():
            return path
    raise ArtefactError("expected the digits in scikit-learn's folder datasets/data, received none")
