"""The training of dense heads: several networks in the same passes over rows that memory may not hold."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.reduce_on_plateau import Plateau
from pipeline.heads.settings import ClassWeight, PlateauSettings
from pipeline.heads.solvers.dense_network import Network
from pipeline.heads.solvers.row_blocks import Workers, one_blas_thread
from pipeline.heads.standardise import (
    Rows,
    Slot,
    Standardised,
    Table,
    blocks,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
)
from pipeline.heads.training_log import RATE
from pipeline.types import Codes, Floats, Progress, Told

Step = Callable[[Rows, Codes, Rows], tuple[float, float]]
SHUFFLED_VALUES: Final = 2**25  # numbers that an epoch shuffles as a whole: 128 MB
RUN_ROWS: Final = 512  # beyond that, rows that are read together


class Trainable(Protocol):
    """What is trained: a head's network, and the parameters that its training needs."""

    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    plateau: PlateauSettings
    class_weight: ClassWeight | None
    standardize: Literal["standard", "none"]
    seed: int

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""

    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each array that a fit learns."""

    def network(self, n_features: int, n_classes: int) -> Network:
        """Return the network as it is before the first step."""


class Run:
    """A head's network in training, with its history and the weights that it will go back to."""

    def __init__(self, head: Trainable, scale: tuple[Floats, Floats], n_classes: int) -> None:
        self.head, self.scale = head, scale
        self._shape = len(scale[0]), n_classes
        self.network = head.network(*self._shape)
        self.history: list[dict[str, float]] = []
        self.diverged = ""
        self.stopped = False
        self.plateau = Plateau(head.plateau, head.learning_rate)
        self._best_loss, self._since_best = math.inf, 0
        self._best: list[NDArray[Any]] = []

    def close_epoch(self, row: dict[str, float]) -> None:
        """Take note of an epoch's losses, which say whether training ends here and which weights are kept."""
        for name, value in row.items():
            if not math.isfinite(value):
                self.diverged = (
                    f"dense: expected a finite {name}, received {value} in epoch {row['epoch']:.0f}: training "
                    f"diverged; lower `learning_rate` ({self.head.learning_rate})"
                )
                self._best = self.head.network(*self._shape).weights()
                self.stopped = True
                return
        self.history.append(row)
        self.plateau.see(row.get("val_loss"))
        self.network.optimizer.rate = self.plateau.rate
        if not self.head.patience:
            return
        self._since_best += 1
        if row["val_loss"] < self._best_loss:
            self._best_loss, self._since_best = row["val_loss"], 0
            self.keep()
        self.stopped = self._since_best == self.head.patience

    def keep(self) -> None:
        """Take note of the weights as they are now: `arrays` goes back to them."""
        self._best = [array.copy() for array in self.network.weights()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, named as in the head's layout."""
        learned = [*self.scale, *(self._best or self.network.weights())]
        return dict(zip(self.head.layout(*self._shape), learned, strict=True))


def train(
    heads: Sequence[Trainable],
    X: Table,
    y: Codes,
    validation: tuple[Table, Codes] | None,
    progress: Progress | None,
    told: Told | None = None,
) -> list[Run]:
    """Train several networks in the same passes: each batch is read and standardised once, and given to all.

    The heads differ in nothing that concerns the rows: seed, batch size, epochs, class weights, standardisation. Each
    comes out as it would alone. `told` is told of the first.
    """
    with one_blas_thread(), Workers() as workers:
        runs, epochs = _begun(heads, X, y, validation, workers)
        rate = runs[0].plateau.rate
        for epoch in epochs:
            if progress is not None:
                progress(epoch, heads[0].epochs)
            if told is not None and not runs[0].diverged:
                told(runs[0].history[-1] | {RATE: rate})
            rate = runs[0].plateau.rate
            if all(run.stopped for run in runs):
                break
    return runs


def train_together(
    head: Trainable,
    parts: Iterable[tuple[Table, Codes, tuple[Table, Codes]]],
    *,
    patience: int,
    progress: Progress | None,
) -> tuple[int, list[Run]]:
    """Train a network on each fold, all side by side, and go back to the epoch whose mean loss is the lowest.

    Folds that stopped each by itself would leave as many answers as there are folds, each from a few rows.

    Parameters
    ----------
    head : Trainable
        Without a patience of its own.
    parts : iterable of (X, y, (X, y))
        Rows to train on, and rows held out.
    patience : int
        Stop after so many epochs without a lower mean over all rows held out.
    progress : callable or None
        Called with (epochs done, epochs at most).

    Returns
    -------
    epochs : int
    runs : list of Run
        One a part, with its weights after so many epochs.
    """
    lowest, chosen = math.inf, 0
    with one_blas_thread(), Workers() as workers:
        begun, counts = [], []
        for X, y, held in parts:
            (run,), epochs = _begun([head], X, y, held, workers)
            begun.append((run, epochs))
            counts.append(len(held[1]))
        runs = [run for run, _ in begun]
        for epoch in range(1, head.epochs + 1):
            for run, epochs in begun:
                next(epochs)
                if run.diverged:
                    raise InputError(run.diverged)
            mean = float(np.average([run.history[-1]["val_loss"] for run in runs], weights=counts))
            if mean < lowest:
                lowest, chosen = mean, epoch
                for run in runs:
                    run.keep()
            if progress is not None:
                progress(epoch, head.epochs)
            if epoch - chosen == patience:
                break
    return chosen, runs


def _begun(
    heads: Sequence[Trainable], X: Table, y: Codes, validation: tuple[Table, Codes] | None, workers: Workers
) -> tuple[list[Run], Iterator[int]]:
    """Return networks with their initial weights, and what trains those that have not stopped, an epoch a step."""
    for head in heads:
        head.check()
    n_features, n_classes = X.shape[-1], count_classes(y)
    check_labelled(X, y, n_features, n_classes)
    if validation is not None:
        check_labelled(*validation, n_features, n_classes)
    elif heads[0].patience:
        raise InputError.of("patience", "validation rows to watch", None, "give some, or `patience=0`")
    elif heads[0].plateau.plateau_patience:
        raise InputError.of("plateau_patience", "validation rows to watch", None, "give some, or leave it out")
    scaled = heads[0].standardize == "standard"
    scale = learn_scale(X) if scaled else (np.zeros(n_features), np.ones(n_features))
    learned = Standardised(X, *scale, dtype=np.float32), y
    held = validation and (Standardised(validation[0], *scale, dtype=np.float32), validation[1])
    runs = [Run(head, scale, n_classes) for head in heads]
    return runs, _epochs(runs, learned, held, workers)


def _epochs(
    runs: Sequence[Run], learned: tuple[Table, Codes], held: tuple[Table, Codes] | None, workers: Workers
) -> Iterator[int]:
    first = runs[0].head
    weights = class_weights(learned[1], first.class_weight).astype(np.float32)
    order = np.random.default_rng(first.seed)
    for epoch in range(1, first.epochs + 1):
        active = [run for run in runs if not run.stopped]
        for run in active:  # threads share the networks, or the weights of the only one
            run.network.each = workers.in_order if len(active) == 1 else map
        steps = [run.network.train_on_batch for run in active]
        trained = _pass(steps, shuffled(*learned, order, first.batch_size), weights, workers)
        judged: list[dict[str, float]] = [{} for _ in active]
        if held is not None:
            steps = [run.network.test_on_batch for run in active]
            judged = _pass(steps, _in_order(*held), weights, workers)
        for run, train, val in zip(active, trained, judged, strict=True):
            run.close_epoch({"epoch": epoch} | train | {f"val_{name}": value for name, value in val.items()})
        yield epoch


def shuffled(X: Table, y: Codes, order: np.random.Generator, batch_size: int) -> Iterator[tuple[Rows, Codes]]:
    """Yield the batches of an epoch. No row is dropped.

    Rows of up to `SHUFFLED_VALUES` numbers are shuffled as a whole. More are cut into runs of rows that stand together;
    so many runs, drawn at random, are read and shuffled as a whole. Where the rows are does not change the order.
    """
    at_once = max(RUN_ROWS, SHUFFLED_VALUES // X.shape[1])
    if len(X) <= at_once:
        groups = [np.array([0])]
        at_once = run = len(X)
    else:
        run = RUN_ROWS
        runs = order.permutation(-(-len(X) // run))
        groups = np.split(runs, range(at_once // run, len(runs), at_once // run))
    for group in groups:
        places = [slice(start * run, min((start + 1) * run, len(X))) for start in sorted(group.tolist())]
        rows = X[places[0]] if len(places) == 1 else np.concatenate([X[place] for place in places])
        codes = np.concatenate([y[place] for place in places])
        shuffled = order.permutation(len(codes))
        for batch in np.split(shuffled, range(batch_size, len(codes), batch_size)):
            yield rows[batch], codes[batch]


def _in_order(X: Table, y: Codes) -> Iterator[tuple[Rows, Codes]]:
    for rows in blocks(len(X)):
        yield X[rows], y[rows]


def _pass(
    steps: Sequence[Step],
    batches: Iterable[tuple[Rows, Codes]],
    weights: Rows,
    workers: Workers,
) -> list[dict[str, float]]:
    """Call each of `steps` on each batch; return for each the means of loss and accuracy over rows."""
    totals, count = np.zeros((len(steps), 2)), 0
    side_by_side = workers.in_order if len(steps) > 1 else map
    for batch in batches:
        totals += len(batch[1]) * np.array(list(side_by_side(partial(_called, batch, weights), steps)))
        count += len(batch[1])
    return [{"loss": float(loss), "accuracy": float(accuracy)} for loss, accuracy in totals / count]


def _called(batch: tuple[Rows, Codes], weights: Rows, step: Step) -> tuple[float, float]:
    rows, codes = batch
    with np.errstate(all="ignore"):  # losses that are not finite end the epoch
        return step(rows, codes, weights[codes])
