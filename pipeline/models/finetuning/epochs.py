"""Epoch after epoch: learn, judge, keep a checkpoint, stop early, and go back to the best weights."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import HeadstartError, InputError
from pipeline.heads.reduce_on_plateau import Plateau
from pipeline.heads.settings import ClassWeight
from pipeline.heads.standardise import class_weights
from pipeline.heads.standardise import probabilities as of_logits
from pipeline.heads.training_log import RATE
from pipeline.models.finetuning import checkpoints, input_pipeline
from pipeline.models.finetuning.checkpoints import Row, State
from pipeline.models.finetuning.settings import TuningSettings
from pipeline.models.finetuning.trainer import Tuner
from pipeline.photos.manifest import Manifest
from pipeline.types import Progress


class FrozenWeightsError(HeadstartError):
    """Weights that were to stay as they are have changed: an error in this program."""


@dataclass(frozen=True)
class Split:
    """Rows of one split.

    Attributes
    ----------
    source : Source
        The rows.
    codes : ndarray of shape (n,), int64
        Their classes.
    weights : ndarray of shape (n,), float32
        Of each row in the loss.
    """

    source: input_pipeline.Source
    codes: NDArray[np.int64]
    weights: NDArray[np.float32]


def labelled(
    source: input_pipeline.Source,
    images: Manifest,
    classes: list[str],
    weighting: ClassWeight | None,
    like: Split | None = None,
) -> Split:
    """Add the images' codes and weights to rows; the weight of a class is that which it has in the split `like`."""
    codes = images.codes(classes)
    counted = codes if like is None else like.codes
    if len(np.unique(counted)) < len(classes):
        raise InputError(
            "expected images of each class in the train split, received none of some: run `hs.prepare` with "
            "`stratify=True`"
        )
    return Split(source, codes, class_weights(counted, weighting)[codes].astype(np.float32))


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes
    ----------
    history : list of dict
        A row an epoch.
    best_epoch : int
        Whose weights the network has now; 0 if they are those that it started with.
    resumed_after : int
        The epoch whose checkpoint the run went on from; 0 if it started afresh.
    seconds : float
        Of the epochs computed now.
    start : dict or None
        Loss and accuracy before the first epoch, where that start may be kept: on the validation images, if any.
    """

    history: list[Row]
    best_epoch: int
    resumed_after: int
    seconds: float
    start: Row | None = None


def train(
    tuner: Tuner,
    train: Split,
    val: Split,
    settings: TuningSettings,
    checkpoint: Path,
    *,
    keeps_start: bool,
    progress: Progress,
    told: Callable[[Row], object],
) -> Outcome:
    """Train a network to the end of its epochs, from the checkpoint if there is one.

    With early stopping the weights that it starts with are kept unless an epoch is better, or some of them are new.

    Parameters
    ----------
    tuner : Tuner
        As it was made; it ends with the best weights.
    train, val : Split
        ``val`` may be empty.
    settings : TuningSettings
        With a patience of 0 if it is.
    keeps_start : bool
        Whether the weights that it starts with are kept where training `diverged`.
    checkpoint : Path
        The file that is read, and replaced after each epoch.
    progress : callable
        Called with (batches done, batches of all epochs).
    told : callable
        Called with each epoch's row and its last learning rate, those before the checkpoint included.

    Raises
    ------
    InputError
        The loss became infinite or NaN.
    FrozenWeightsError
        Frozen weights have changed.
    StorageError
        A checkpoint cannot be written.
    """
    let_bits_repeat(settings)
    before = tuner.frozen_digest()
    untrained = tuner.weights()
    start = _judge(tuner, val, settings) if settings.patience and not settings.starts_new else None
    state = resumed(tuner, checkpoint)
    resumed_after, started = state.epoch, time.monotonic()
    plateau = Plateau(settings.plateau, settings.learning_rate)
    for row in state.history:
        rate = _last_rate(train, settings, int(row["epoch"]), plateau.rate)
        plateau.see(row.get("val_loss"))
        told(row | {RATE: rate})
    # A checkpoint is written behind, while the next epoch is under way: on a slow disk it takes as long as that one.
    with ThreadPoolExecutor(1) as behind:
        written: Future[None] | None = None
        while state.epoch < settings.epochs and not _is_over(state, settings):
            rate = _last_rate(train, settings, state.epoch + 1, plateau.rate)
            row = _epoch(tuner, train, val, settings, state.epoch + 1, plateau.rate, progress)
            _append(state, row, tuner, settings)
            plateau.see(row.get("val_loss"))
            if written is not None:
                written.result()
            written = behind.submit(checkpoints.keep, checkpoint, replace(state, history=list(state.history)))
            told(row | {RATE: rate})
    if written is not None:
        written.result()
    if keeps_start and diverged(state.history, settings, n_classes=tuner.n_classes):
        tuner.set_weights(untrained)
        start = _judge(tuner, val if len(val.codes) else train, settings)
        state.best, state.best_epoch = untrained, 0
    elif start and start["loss"] <= min(row["val_loss"] for row in state.history):
        state.best, state.best_epoch = untrained, 0
    tuner.set_weights(state.best)
    if tuner.frozen_digest() != before:
        raise FrozenWeightsError("expected the frozen weights as they were before training, received others")
    return Outcome(state.history, state.best_epoch, resumed_after, time.monotonic() - started, start)


def let_bits_repeat(settings: TuningSettings) -> None:
    """Let TensorFlow give the same bits again, if that is asked for."""
    if settings.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def probabilities(tuner: Tuner, split: Split, settings: TuningSettings) -> NDArray[np.float64]:
    """Return the probabilities (n, K) of a split's images as the network is now, in the order of its rows."""
    found = np.empty((split.source.count, tuner.n_classes))
    order = split.source.order(None)
    for places, rows in input_pipeline.prefetched(split.source, order, batch_size=settings.batch_size, epoch=0):
        found[places] = of_logits(tuner.logits(rows))
    return found


def resumed(tuner: Tuner, checkpoint: Path) -> State:
    """Put the network and its optimizer where a checkpoint left them; without a sound one, leave them at the start."""
    start = State(tuner.weights(), tuner.optimizer_state(), tuner.weights())
    state = checkpoints.found(checkpoint, start)
    if state is None:
        return start
    tuner.set_weights(state.weights)
    tuner.set_optimizer_state(state.optimizer)
    return state


def diverged(history: Sequence[Row], settings: TuningSettings, *, n_classes: int) -> bool:
    """Tell whether a training that nothing stops left a good start for less than a guess, a loss of ln K."""
    last = history[-1]
    free = not (settings.patience or settings.starts_new)
    return free and last.get("val_loss", last["loss"]) > math.log(n_classes)


def _last_rate(train: Split, settings: TuningSettings, epoch: int, highest: float) -> float:
    """Return the learning rate of an epoch's last step."""
    batches = input_pipeline.count_batches(train.source.order(None), settings.batch_size)
    return settings.rate(epoch * batches - 1, batches, highest=highest)


def _is_over(state: State, settings: TuningSettings) -> bool:
    return bool(settings.patience) and state.epoch - state.best_epoch >= settings.patience


def _append(state: State, row: Row, tuner: Tuner, settings: TuningSettings) -> None:
    lowest = min((past["val_loss"] for past in state.history), default=math.inf) if settings.patience else math.inf
    state.history.append(row)
    state.weights, state.optimizer = tuner.weights(), tuner.optimizer_state()
    if not settings.patience or row["val_loss"] < lowest:
        state.best, state.best_epoch = state.weights, state.epoch


def _epoch(
    tuner: Tuner, train: Split, val: Split, settings: TuningSettings, epoch: int, highest: float, progress: Progress
) -> Row:
    row: Row = {"epoch": epoch} | _learn(tuner, train, settings, epoch, highest, progress)
    if len(val.codes):
        row |= {f"val_{name}": value for name, value in _judge(tuner, val, settings).items()}
    for name, value in row.items():
        if not math.isfinite(value):
            raise InputError(
                f"expected a finite {name}, received {value} in epoch {epoch}: training diverged; lower "
                f"`learning_rate` ({settings.learning_rate})"
            )
    return row


def _learn(tuner: Tuner, train: Split, settings: TuningSettings, epoch: int, highest: float, progress: Progress) -> Row:
    """Train for one epoch; return the means of loss and accuracy over its rows."""
    order = train.source.order(np.random.default_rng((settings.seed, epoch)))
    batches = input_pipeline.count_batches(order, settings.batch_size)
    tuner.begin(epoch)
    loss, right = 0.0, 0
    done = (epoch - 1) * batches
    for places, rows in input_pipeline.prefetched(train.source, order, batch_size=settings.batch_size, epoch=epoch):
        rate = settings.rate(done, batches, highest=highest)
        sums = tuner.train(rows, train.codes[places], train.weights[places], rate=rate)
        loss, right, done = loss + sums.loss * len(places), right + sums.right, done + 1
        progress(done, settings.epochs * batches)
    return {"loss": loss / train.source.count, "accuracy": right / train.source.count}


def _judge(tuner: Tuner, val: Split, settings: TuningSettings) -> Row:
    loss, right = 0.0, 0
    for places, rows in input_pipeline.prefetched(
        val.source, val.source.order(None), batch_size=settings.batch_size, epoch=0
    ):
        sums = tuner.judge(rows, val.codes[places], val.weights[places])
        loss, right = loss + sums.loss * len(places), right + sums.right
    return {"loss": loss / val.source.count, "accuracy": right / val.source.count}
