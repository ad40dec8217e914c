"""The default data: scikit-learn's handwritten digits, written as PNG files, one folder a class.

1,797 images of 8 x 8 px with 17 grey levels: the test part of the "Optical Recognition of Handwritten Digits" data
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998), which scikit-learn ships.
"""

from pathlib import Path

import numpy as np

GREY_LEVELS = 16


def write(folder: Path) -> int:
    """Write every digit as ``<folder>/<digit>/<number>.png``, 8-bit grey, dark background; return how many."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / GREY_LEVELS)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return len(pixels)
