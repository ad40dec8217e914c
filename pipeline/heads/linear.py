"""Heads that are one affine map of standardised features under a softmax: what they keep, and how they predict."""

import numpy as np

from pipeline.heads.dense_layers import Stack
from pipeline.heads.head import Head
from pipeline.heads.standardise import Rows, Slot, blocks, check_rows, outputs, probabilities, standardise
from pipeline.types import Floats


class AffineHead(Head):
    """The part of such a head that does not depend on how it learns.

    Attributes
    ----------
    arrays_ : dict
        ``coef_`` (1 or K, d), ``intercept_`` (1 or K,), ``mean_`` and ``scale_`` (d,), all float64. A single row
        of ``coef_`` is the log odds of the second of two classes.
    """

    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each array that a fit learns."""
        n_outputs = outputs(n_classes)
        return {
            "coef_": Slot((n_outputs, n_features), "float64", trainable=True),
            "intercept_": Slot((n_outputs,), "float64", trainable=True),
            "mean_": Slot((n_features,), "float64", trainable=False),
            "scale_": Slot((n_features,), "float64", trainable=False),
        }

    def predict_proba(self, X: Rows) -> Floats:
        """Return the probability of each class, from the arrays alone."""
        coef, intercept = self.arrays_["coef_"], self.arrays_["intercept_"]
        mean, scale = self.arrays_["mean_"], self.arrays_["scale_"]
        check_rows(X, coef.shape[1])
        logits = np.empty((len(X), len(coef)))
        for rows in blocks(len(X)):
            logits[rows] = standardise(X[rows], mean, scale) @ coef.T + intercept
        return probabilities(logits)

    def stack(self) -> Stack:
        """Return the fitted head as one dense layer."""
        return Stack(
            mean=self.arrays_["mean_"],
            scale=self.arrays_["scale_"],
            kernels=[np.ascontiguousarray(self.arrays_["coef_"].T, dtype=np.float32)],
            biases=[self.arrays_["intercept_"].astype(np.float32)],
            activation="linear",
            dropout=0.0,
            l1=0.0,
            l2=0.0,
        )

    def _keep(self, coef: Floats, intercept: Floats, mean: Floats, scale: Floats) -> None:
        learned = {"coef_": coef, "intercept_": intercept, "mean_": mean, "scale_": scale}
        # One memory order, so that a head gives the same bits before and after it is stored.
        self.arrays_ = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in learned.items()}
