"""Types that many modules name."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], object]  # is told how many are done, and of how many
Told = Callable[[dict[str, float]], object]  # is told each epoch's row of the history
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # RGB
Codes = NDArray[np.int64]  # the class of each row, as its place among the sorted names
