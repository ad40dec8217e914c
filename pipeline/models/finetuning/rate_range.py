"""A learning-rate range test: the rate rises from step to step, and the loss says where it begins to harm.

After Smith, "Cyclical Learning Rates for Training Neural Networks" (2017). From `LOWEST` to `HIGHEST`, each of
`STEPS` rates is the same number of times as high as the one before; where the loss is far above its least, the test
ends. The network that it leaves is thrown away.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.models.finetuning import checkpoints, epochs, input_pipeline
from pipeline.models.finetuning.checkpoints import Row, State
from pipeline.models.finetuning.epochs import Split
from pipeline.models.finetuning.settings import TuningSettings
from pipeline.models.finetuning.trainer import Tuner
from pipeline.plots import rates
from pipeline.storage.atomic import publish_csv
from pipeline.types import Progress

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
FAR: Final = 4.0  # times the least loss, beyond which the test ends
MEMORY: Final = 0.9  # of the mean that smooths the loss
CHUNK: Final = 20  # steps from one checkpoint to the next
TABLE, PICTURE = "learning_rates.csv", "learning_rates.png"


@dataclass(frozen=True)
class RateRange:
    """What a range test found.

    Attributes
    ----------
    rows : list of dict
        A row a step: step, from 1, rate, loss, and ``smoothed``, its running mean.
    suggested : float
        A tenth of the rate at which the smoothed loss is the least, with two digits.
    resumed_after : int
        The step whose checkpoint the run went on from; 0 if it started afresh.
    """

    rows: list[Row]
    suggested: float
    resumed_after: int


def rate_of(step: int) -> float:
    """Return the learning rate of a step, from 1."""
    return float(LOWEST * (HIGHEST / LOWEST) ** ((step - 1) / (STEPS - 1)))


def sweep(tuner: Tuner, train: Split, settings: TuningSettings, checkpoint: Path, progress: Progress) -> RateRange:
    """Take the steps, from the checkpoint if there is one.

    Parameters
    ----------
    tuner : Tuner
        As it was made; what it learns here is of no use.
    train : Split
    settings : TuningSettings
    checkpoint : Path
        The file that is read, and replaced every `CHUNK` steps.
    progress : callable
        Called with (steps done, `STEPS`).

    Raises
    ------
    StorageError
        A checkpoint cannot be written.
    """
    epochs.let_bits_repeat(settings)
    state = epochs.resumed(tuner, checkpoint)
    resumed_after, rows = state.epoch, list(state.history)
    for places, values in itertools.islice(_batches(train, settings), resumed_after, None):
        if len(rows) == STEPS or _is_over(rows):
            break
        if len(rows) % CHUNK == 0:
            tuner.begin(len(rows) // CHUNK + 1)
        rate = rate_of(len(rows) + 1)
        loss = tuner.train(values, train.codes[places], train.weights[places], rate=rate).loss
        if not math.isfinite(loss):
            break
        rows.append(_row(rows, rate, loss))
        progress(len(rows), STEPS)
        if len(rows) % CHUNK == 0:
            weights = tuner.weights()
            checkpoints.keep(checkpoint, State(weights, tuner.optimizer_state(), weights, history=rows))
    return RateRange(rows, suggested(rows), resumed_after)


def suggested(rows: list[Row]) -> float:
    """Return a tenth of the rate at which the smoothed loss is the least, with two digits; `LOWEST` of no rows."""
    best = min(rows, key=lambda row: row["smoothed"], default={"rate": 10 * LOWEST})
    return float(f"{best['rate'] / 10:.1e}")


def write(found: RateRange, out_dir: Path) -> None:
    """Write the table and the picture into a folder, which is made if it is missing."""
    columns = ["step", "rate", "loss", "smoothed"]
    publish_csv(out_dir / TABLE, columns, [[row[column] for column in columns] for row in found.rows])
    rates.learning_rates(found.rows, found.suggested, out_dir / PICTURE)


def _batches(train: Split, settings: TuningSettings) -> Iterator[tuple[np.ndarray[Any, Any], Any]]:
    """Yield batches without end, in the order of the epochs of a training."""
    for epoch in itertools.count(1):
        order = train.source.order(np.random.default_rng((settings.seed, epoch)))
        yield from input_pipeline.prefetched(train.source, order, batch_size=settings.batch_size, epoch=epoch)


def _row(rows: list[Row], rate: float, loss: float) -> Row:
    """Return the row of a step; the mean forgets what is long past, and is not drawn to the zero it starts from."""
    step = len(rows) + 1
    before = rows[-1]["smoothed"] * (1 - MEMORY ** (step - 1)) if rows else 0.0
    return {
        "step": step,
        "rate": rate,
        "loss": loss,
        "smoothed": (MEMORY * before + (1 - MEMORY) * loss) / (1 - MEMORY**step),
    }


def _is_over(rows: list[Row]) -> bool:
    smoothed = [row["smoothed"] for row in rows]
    return bool(rows) and smoothed[-1] > FAR * min(smoothed)
