"""The training of dense heads: several networks in the same passes over rows that memory may not hold."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.reduce_on_plateau import Plateau
from pipeline.heads.settings import ClassWeight, PlateauSettings
from pipeline.heads.standardise import (
    Rows,
    Slot,
    Table,
    blocks,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
    standardise,
)
from pipeline.heads.training_log import RATE
from pipeline.types import Codes, Floats, Progress, Told

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

    def network(self, n_features: int, n_classes: int) -> Any:
        """Build and compile the Keras model."""


class Network:
    """A Keras model in training, with its history and the weights it will go back to.

    It takes the model of `before`, a network that is done, if that has the same shape: to compile one takes longer than
    to train it on few rows.
    """

    def __init__(
        self, head: Trainable, scale: tuple[Floats, Floats], n_classes: int, before: "Network | None" = None
    ) -> None:
        self.head, self.scale = head, scale
        self.layout = head.layout(len(scale[0]), n_classes)
        same = before if before is not None and before.layout == self.layout else None
        self.model: Any = same.model if same else head.network(len(scale[0]), n_classes)
        self._initial: list[Any] = same._initial if same else _state(self.model)
        if same:
            _restore(self.model, self._initial)
        self.history: list[dict[str, float]] = []
        self.diverged = ""
        self.stopped = False
        self.plateau = Plateau(head.plateau, head.learning_rate)
        self._best_loss, self._best, self._since_best = math.inf, None, 0

    def close_epoch(self, row: dict[str, float]) -> None:
        """Take note of an epoch's losses, which say whether training ends here and which weights are kept."""
        for name, value in row.items():
            if not math.isfinite(value):
                self.diverged = (
                    f"dense: expected a finite {name}, received {value} in epoch {row['epoch']:.0f}: training "
                    f"diverged; lower `learning_rate` ({self.head.learning_rate})"
                )
                _restore(self.model, self._initial)
                self.stopped = True
                self.keep()
                return
        self.history.append(row)
        self.plateau.see(row.get("val_loss"))
        if self.plateau.rate != self.head.learning_rate:
            self.model.optimizer.learning_rate = self.plateau.rate
        if not self.head.patience:
            return
        self._since_best += 1
        if row["val_loss"] < self._best_loss:
            self._best_loss, self._since_best = row["val_loss"], 0
            self.keep()
        self.stopped = self._since_best == self.head.patience

    def keep(self) -> None:
        """Take note of the weights as they are now: `arrays` goes back to them."""
        self._best = self.model.get_weights()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, named as in the head's layout."""
        learned = [*self.scale, *(self._best or self.model.get_weights())]
        return dict(zip(self.layout, map(np.ascontiguousarray, learned), strict=True))


def train(
    heads: Sequence[Trainable],
    X: Table,
    y: Codes,
    validation: tuple[Table, Codes] | None,
    progress: Progress | None,
    before: Sequence[Network] = (),
    told: Told | None = None,
) -> list[Network]:
    """Train several networks in the same passes: each batch is read and standardised once, and given to all.

    The heads differ in nothing that concerns the rows: seed, batch size, epochs, class weights, standardisation. Each
    comes out as it would alone. The networks `before` are those of the same heads on other rows, whose arrays were
    taken: their models are trained anew. `told` is told of the first.
    """
    networks, epochs = _begun(heads, X, y, validation, before)
    rate = networks[0].plateau.rate
    for epoch in epochs:
        if progress is not None:
            progress(epoch, heads[0].epochs)
        if told is not None and not networks[0].diverged:
            told(networks[0].history[-1] | {RATE: rate})
        rate = networks[0].plateau.rate
        if all(network.stopped for network in networks):
            break
    return networks


def train_together(
    head: Trainable,
    parts: Sequence[tuple[Table, Codes, tuple[Table, Codes]]],
    *,
    patience: int,
    progress: Progress | None,
) -> tuple[int, list[Network]]:
    """Train a network on each fold, all side by side, and go back to the epoch whose mean loss is the lowest.

    Folds that stopped each by itself would leave as many answers as there are folds, each from a few rows.

    Parameters
    ----------
    head : Trainable
        Without a patience of its own.
    parts : sequence of (X, y, (X, y))
        Rows to train on, and rows held out.
    patience : int
        Stop after so many epochs without a lower mean over all rows held out.
    progress : callable or None
        Called with (epochs done, epochs at most).

    Returns
    -------
    epochs : int
    networks : list of Network
        One a part, with its weights after so many epochs.
    """
    begun = [_begun([head], *parts[0])]
    begun += [_begun([head], *part, begun[0][0]) for part in parts[1:]]
    networks = [network for (network,), _ in begun]
    model = networks[0].model  # of all of them: it takes the state of each in turn
    states = best = [_state(model)] * len(networks)
    rows = np.array([len(held[1]) for _, _, held in parts])
    lowest, chosen = math.inf, 0
    for epoch in range(1, head.epochs + 1):
        after: list[list[Any]] = []
        for (network,), epochs in begun:
            _restore(model, states[len(after)])
            next(epochs)
            if network.diverged:
                raise InputError(network.diverged)
            after.append(_state(model))
        states = after
        mean = float(rows @ [network.history[-1]["val_loss"] for network in networks] / rows.sum())
        if mean < lowest:
            lowest, chosen, best = mean, epoch, states
        if progress is not None:
            progress(epoch, head.epochs)
        if epoch - chosen == patience:
            break
    for network, state in zip(networks, best, strict=True):
        _restore(model, state)
        network.keep()
    return chosen, networks


def _state(model: Any) -> list[Any]:
    """Return all that a step changes, as arrays: weights, the optimizer's numbers, what dropout draws next."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    arrays = (variable.numpy() for variable in (*model.variables, *model.optimizer.variables))
    return [array if array.any() else np.zeros(array.shape, array.dtype) for array in arrays]  # zeros take no memory


def _restore(model: Any, state: Sequence[Any]) -> None:
    for variable, array in zip((*model.variables, *model.optimizer.variables), state, strict=True):
        variable.assign(array)


def _begun(
    heads: Sequence[Trainable],
    X: Table,
    y: Codes,
    validation: tuple[Table, Codes] | None,
    before: Sequence[Network] = (),
) -> tuple[list[Network], Iterator[int]]:
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
    networks = [Network(head, scale, n_classes, other) for head, other in zip_longest(heads, before[: len(heads)])]
    return networks, _epochs(networks, X, y, validation)


def _epochs(networks: Sequence[Network], X: Table, y: Codes, validation: tuple[Table, Codes] | None) -> Iterator[int]:
    first, scale = networks[0].head, networks[0].scale
    weights = class_weights(y, first.class_weight)
    order = np.random.default_rng(first.seed)
    for epoch in range(1, first.epochs + 1):
        active = [network for network in networks if not network.stopped]
        steps = [network.model.train_on_batch for network in active]
        trained = _pass(steps, shuffled(X, y, order, first.batch_size), scale, weights)
        judged: list[dict[str, float]] = [{} for _ in active]
        if validation is not None:
            steps = [network.model.test_on_batch for network in active]
            judged = _pass(steps, _in_order(*validation), scale, weights)
        for network, train, held in zip(active, trained, judged, strict=True):
            network.close_epoch({"epoch": epoch} | train | {f"val_{name}": value for name, value in held.items()})
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
    steps: Sequence[Callable[..., dict[str, float]]],
    batches: Iterable[tuple[Rows, Codes]],
    scale: tuple[Floats, Floats],
    weights: Floats,
) -> list[dict[str, float]]:
    """Call each of `steps` on each batch; return for each the means of loss and accuracy over rows.

    Rows are standardised batch by batch, so that no second copy of the features is ever held.
    """
    totals = [{"loss": 0.0, "accuracy": 0.0} for _ in steps]
    count = 0
    for rows, codes in batches:
        # A column of floats for the one logit of two classes, plain codes for the logits of more.
        targets = codes[:, None].astype(np.float32) if len(weights) == 2 else codes
        values = standardise(rows, *scale).astype(np.float32)
        count += len(codes)
        for step, total in zip(steps, totals, strict=True):
            logs = step(values, targets, sample_weight=weights[codes].astype(np.float32), return_dict=True)
            for name in total:
                total[name] += float(logs[name]) * len(codes)
    return [{name: value / count for name, value in total.items()} for total in totals]
