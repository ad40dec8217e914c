"""A small neural network on the features, in numpy: dense layers that are trained in epochs and kept as arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np

from pipeline import setting
from pipeline.errors import InputError
from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.dense_layers import Stack, glorot, logits
from pipeline.heads.head import Head
from pipeline.heads.parameter_checks import require_choice, require_number, require_whole
from pipeline.heads.selection.cross_validation import Fold
from pipeline.heads.settings import ClassWeight, PlateauSettings
from pipeline.heads.solvers import dense_training
from pipeline.heads.solvers.dense_network import OPTIMIZERS, Network
from pipeline.heads.standardise import (
    Candidates,
    Rows,
    Slot,
    Table,
    blocks,
    check_rows,
    outputs,
    probabilities,
    standardise,
    take,
)
from pipeline.types import Codes, Floats, Progress, Told

STANDARDIZE: Final = ("standard", "none")


@dataclass(kw_only=True, eq=False)
class DenseHead(Head):
    """Dense layers under one logit for two classes, or K logits for more.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers, from the features up; empty for softmax regression.
    activation : str
        Of the hidden layers, one of `ACTIVATIONS`.
    dropout : float
        Share of inputs that each layer but the first drops while training, in [0, 1). Without hidden layers it is the
        features that are dropped.
    l1, l2 : float
        Penalties on all kernels, not on biases; they are part of the reported losses.
    optimizer : str
        One of `OPTIMIZERS`, with Keras' settings besides the learning rate.
    learning_rate : float
    batch_size : int
        Rows a step; the last batch of an epoch may be smaller, no row is dropped.
    epochs : int
        At most so many passes over the rows.
    patience : int
        Stop after so many epochs without a lower validation loss, and go back to the weights of the lowest. 0 is off.
    class_weight : "balanced" or None
        Whether rare classes weigh more in the loss, that on the validation rows included; accuracies are not weighted.
    plateau : PlateauSettings
        Where the learning rate falls.
    standardize : "standard" or "none"
        Whether columns are brought to mean 0 and deviation 1, as learned on the training rows.
    seed : int
        Of initial weights, dropout and order of rows. The same seed gives the same weights on one machine, whatever
        else the process did before.

    Attributes
    ----------
    arrays_ : dict
        ``mean_`` and ``scale_`` (d,) float64; for each layer i from 0 ``kernel_i_`` (inputs, outputs) and ``bias_i_``
        (outputs,) float32.
    history_ : list of dict
        A row an epoch: epoch (from 1), loss, accuracy and, with validation rows, val_loss, val_accuracy. As Keras
        tells them, the training side is the mean over the epoch's batches while the weights move and dropout is on.
    """

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    l1: float
    l2: float
    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    class_weight: ClassWeight | None
    standardize: Literal["standard", "none"]
    seed: int
    plateau: PlateauSettings = field(default_factory=PlateauSettings)

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        if not isinstance(self.hidden, tuple):
            raise InputError.of("hidden", "a tuple of widths", repr(self.hidden))
        for width in self.hidden:
            require_whole("hidden", width, least=1)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_number("dropout", self.dropout, most=math.nextafter(1.0, 0.0))
        require_number("l1", self.l1)
        require_number("l2", self.l2)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_number("learning_rate", self.learning_rate, open_ended=True)
        require_whole("batch_size", self.batch_size, least=1)
        require_whole("epochs", self.epochs, least=1)
        require_whole("patience", self.patience, least=0)
        setting.check(self.plateau)
        require_choice("class_weight", self.class_weight, (None, "balanced"))
        require_choice("standardize", self.standardize, STANDARDIZE)
        require_whole("seed", self.seed, least=0)

    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each array that a fit learns."""
        slots = {name: Slot((n_features,), "float64", trainable=False) for name in ("mean_", "scale_")}
        widths = (n_features, *self.hidden, outputs(n_classes))
        for i, (below, above) in enumerate(pairwise(widths)):
            slots[f"kernel_{i}_"] = Slot((below, above), "float32", trainable=True)
            slots[f"bias_{i}_"] = Slot((above,), "float32", trainable=True)
        return slots

    def fit(
        self,
        X: Table,
        y: Codes,
        validation: tuple[Table, Codes] | None,
        progress: Progress | None = None,
        told: Told | None = None,
    ) -> Self:
        """Train for `epochs`, or until the validation loss has not fallen for `patience` of them.

        InputError also if early stopping has nothing to watch, or the loss became infinite or NaN.
        """
        (run,) = dense_training.train([self], X, y, validation, progress, told)
        if run.diverged:
            raise InputError(run.diverged)
        self.arrays_, self.history_, self.warnings_ = run.arrays(), run.history, []
        return self

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return the values that a search tries, the simplest first."""
        return {
            "hidden": ((), (64,), (256,)),
            "l2": (1e-3, 0.0),
            "l1": (1e-5, 0.0),
            "dropout": (0.5, 0.2),
            "learning_rate": (1e-3, 3e-3),
        }

    def fit_grid(
        self,
        X: Table,
        y: Codes,
        folds: Sequence[Fold],
        candidates: Candidates,
        *,
        jobs: int,
        progress: Progress | None,
    ) -> list[list[Self]]:
        """Fit each candidate on the rows of each fold, all candidates of a fold in the same passes over its rows.

        A candidate that diverges keeps its initial weights, which lose every comparison, and says so in `warnings_`.
        `jobs` is not used: the candidates of a fold are trained in as many threads as there are processors.
        """
        fitted = []
        for number, fold in enumerate(folds):
            heads = [replace(self, **candidate) for candidate in candidates]

            def told(done: int, total: int, before: int = number) -> None:
                if progress is not None:
                    progress(before * total + done, len(folds) * total)

            runs = dense_training.train(heads, take(X, fold.rows), y[fold.rows], fold.held, told)
            for head, run in zip(heads, runs, strict=True):
                head.arrays_, head.history_ = run.arrays(), run.history
                head.warnings_ = [run.diverged] if run.diverged else []
            fitted.append(heads)
        return fitted

    def fit_folds(self, X: Table, y: Codes, folds: Sequence[Fold], progress: Progress | None) -> list[Self]:
        """Return a head for each fold, all trained for the epochs after which their mean loss on held rows is lowest.

        As in `fit`, `patience` epochs without a lower one end the training. The heads returned have these `epochs`.
        """
        alone = replace(self, patience=0)
        parts = ((take(X, fold.rows), y[fold.rows], fold.held) for fold in folds)
        epochs, runs = dense_training.train_together(alone, parts, patience=self.patience, progress=progress)
        heads = [replace(alone, epochs=epochs) for _ in runs]
        for head, run in zip(heads, runs, strict=True):
            head.arrays_, head.history_, head.warnings_ = run.arrays(), run.history[:epochs], []
        return heads

    def predict_proba(self, X: Rows) -> Floats:
        """Return the probability of each class, from the arrays alone."""
        stack = self.stack()
        check_rows(X, len(stack.mean))
        found = np.empty((len(X), len(stack.biases[-1])), np.float32)
        for rows in blocks(len(X)):
            values = standardise(X[rows], stack.mean, stack.scale).astype(np.float32)
            found[rows] = logits(values, stack.kernels, stack.biases, self.activation)
        return probabilities(found)

    def stack(self) -> Stack:
        """Return the fitted head as its dense layers."""
        count = len(self.hidden) + 1
        return Stack(
            mean=self.arrays_["mean_"],
            scale=self.arrays_["scale_"],
            kernels=[self.arrays_[f"kernel_{i}_"] for i in range(count)],
            biases=[self.arrays_[f"bias_{i}_"] for i in range(count)],
            activation=self.activation,
            dropout=self.dropout,
            l1=self.l1,
            l2=self.l2,
        )

    def network(self, n_features: int, n_classes: int) -> Network:
        """Return the layers as they are before the first step, and what trains them."""
        weights, dropped = map(np.random.default_rng, np.random.SeedSequence(self.seed).spawn(2))
        return Network(
            glorot((n_features, *self.hidden, outputs(n_classes)), weights),
            activation=self.activation,
            dropout=self.dropout,
            l1=self.l1,
            l2=self.l2,
            optimizer=self.optimizer,
            rate=self.learning_rate,
            draw=dropped,
        )
