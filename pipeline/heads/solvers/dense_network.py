"""Dense layers that learn: forward, loss, backward and the optimizer's step, in numpy and in place.

A wide layer has millions of weights. Its step goes over them in pieces of consecutive rows: a piece's gradient is
computed and used up while it, the weights and what the optimizer remembers of them are in the processor's cache.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.activations import ACTIVATIONS, DERIVATIVES, sigmoid
from pipeline.heads.dense_layers import logits
from pipeline.types import Codes

Numbers = NDArray[Any]
Each = Callable[[Callable[[slice], float], Iterable[slice]], Iterable[float]]
PIECE: Final = 2**17  # weights
SHARED_PIECES: Final = 4  # from so many on it pays to share them among threads


class SGD:
    """Plain gradient descent."""

    slots: ClassVar = 0  # arrays that it remembers of each weight

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def begin(self) -> None:
        """Begin a step."""

    def update(self, weights: Numbers, gradient: Numbers, _: Sequence[Numbers], spare: Numbers) -> None:
        """Change weights in place; `gradient` and `spare`, of the same shape, are overwritten."""
        weights -= np.multiply(gradient, self.rate, out=spare)


class RMSprop(SGD):
    """Tieleman and Hinton, "Lecture 6.5" (2012), with Keras' settings."""

    slots: ClassVar = 1
    RHO: Final = 0.9
    EPSILON: Final = 1e-7

    def update(self, weights: Numbers, gradient: Numbers, kept: Sequence[Numbers], spare: Numbers) -> None:
        """Change weights in place; `gradient` and `spare`, of the same shape, are overwritten."""
        (squares,) = kept
        np.square(gradient, out=spare)
        spare *= 1 - self.RHO
        squares *= self.RHO
        squares += spare
        np.add(squares, self.EPSILON, out=spare)
        np.sqrt(spare, out=spare)
        gradient *= self.rate
        gradient /= spare
        weights -= gradient


class Adam(SGD):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), with Keras' settings.

    As in the last paragraph of their section 2, the correction of both means' bias is in the step's size. The means are
    kept without their factors 1 - beta, which leaves two passes over the weights fewer.
    """

    slots: ClassVar = 2
    BETA_1: Final = 0.9
    BETA_2: Final = 0.999
    EPSILON: Final = 1e-7

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.steps = 0

    def begin(self) -> None:
        """Begin a step."""
        self.steps += 1
        root = (1 - self.BETA_2) ** 0.5
        corrected = (1 - self.BETA_2**self.steps) ** 0.5 / (1 - self.BETA_1**self.steps)
        self._size, self._epsilon = self.rate * corrected * (1 - self.BETA_1) / root, self.EPSILON / root

    def update(self, weights: Numbers, gradient: Numbers, kept: Sequence[Numbers], spare: Numbers) -> None:
        """Change weights in place; `gradient` and `spare`, of the same shape, are overwritten."""
        mean, squares = kept
        mean *= self.BETA_1
        mean += gradient
        np.square(gradient, out=spare)
        squares *= self.BETA_2
        squares += spare
        np.sqrt(squares, out=spare)
        spare += self._epsilon
        np.divide(mean, spare, out=spare)
        spare *= self._size
        weights -= spare


OPTIMIZERS: Final = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


class Network:
    """Dense layers up to the logits, one for two classes, else one a class.

    Parameters
    ----------
    kernels : sequence of ndarray of shape (inputs, outputs)
        From the features up. They and the biases, zero at first, change in place. Their dtype is that of all.
    activation : str
        Of all layers but the last, one of `ACTIVATIONS`.
    dropout : float
        While training, the share of inputs that each layer but the first drops; of the features if there is one layer.
    l1, l2 : float
        Penalties on the kernels; part of each loss.
    optimizer : str
        One of `OPTIMIZERS`.
    rate : float
        Its learning rate.
    draw : Generator
        What dropout draws from.

    Attributes
    ----------
    each : callable
        As `map`: how a step goes over the pieces of a wide kernel, perhaps in threads. It changes no bit.
    """

    def __init__(
        self,
        kernels: Sequence[Numbers],
        *,
        activation: str,
        dropout: float,
        l1: float,
        l2: float,
        optimizer: Literal["adam", "rmsprop", "sgd"],
        rate: float,
        draw: np.random.Generator,
    ) -> None:
        self.kernels = list(kernels)
        self.biases = [np.zeros(kernel.shape[1], kernel.dtype) for kernel in kernels]
        self.optimizer = OPTIMIZERS[optimizer](rate)
        self._kept = [[np.zeros_like(one) for _ in range(self.optimizer.slots)] for one in self.weights()]
        self._named, self._activation, self._slope = activation, ACTIVATIONS[activation], DERIVATIVES[activation]
        self._dropout, self._l1, self._l2, self._draw = dropout, l1, l2, draw
        self._dtype = kernels[0].dtype
        self.each: Each = map
        self._most = max(max(kernel.shape[1], min(PIECE, kernel.size)) for kernel in kernels)
        self._spare: list[Numbers] = []  # as many as threads needed at once

    def weights(self) -> list[Numbers]:
        """Return kernel and bias of each layer from the features up: the arrays that are trained."""
        return [array for pair in zip(self.kernels, self.biases, strict=True) for array in pair]

    def train_on_batch(self, rows: Numbers, codes: Codes, weights: Numbers) -> tuple[float, float]:
        """Take a step on rows (n, d); return loss and accuracy of the batch before it, with dropout.

        The loss is the mean of weight times cross-entropy, and the penalties; rows count equally in the accuracy.
        `codes` and `weights`, of each row in the loss, are (n,).
        """
        entered, before, masks = [rows], list[Numbers](), list[Numbers | None]()
        top = len(self.kernels) - 1
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            masks.append(self._mask(entered[i].shape) if i or not top else None)
            if masks[i] is not None:
                entered[i] = entered[i] * masks[i]
            before.append(entered[i] @ kernel)
            before[i] += bias
            if i < top:
                entered.append(self._activation(before[i]))
        losses, flow, right = cross_entropies(before[top], codes)
        flow *= (weights / len(codes))[:, None]
        self.optimizer.begin()
        penalty = 0.0
        for i in range(top, -1, -1):
            below = flow
            if i:
                below = flow @ self.kernels[i].T
                if masks[i] is not None:
                    below *= masks[i]
                below *= self._slope(before[i - 1])
            penalty += self._step(i, entered[i], flow)
            flow = below
        return float(weights @ losses) / len(codes) + penalty, right / len(codes)

    def test_on_batch(self, rows: Numbers, codes: Codes, weights: Numbers) -> tuple[float, float]:
        """Return loss and accuracy of a batch, as `train_on_batch`, without dropout and without a step."""
        losses, _, right = cross_entropies(logits(rows, self.kernels, self.biases, self._named), codes)
        penalty = sum(self._penalty(kernel) for kernel in self.kernels)
        return float(weights @ losses) / len(codes) + penalty, right / len(codes)

    def _mask(self, shape: tuple[int, ...]) -> Numbers | None:
        if not self._dropout:
            return None
        kept = self._draw.random(shape, np.float32) >= self._dropout
        return np.multiply(kept, 1 / (1 - self._dropout), dtype=self._dtype)

    def _step(self, layer: int, entered: Numbers, flow: Numbers) -> float:
        """Change the weights of a layer; return the penalties on its kernel as it was.

        `entered` is (n, inputs); `flow` (n, outputs) is the derivative of the loss by what the layer computes.
        """
        kernel, bias = self.kernels[layer], self.biases[layer]
        rows = max(1, PIECE // kernel.shape[1])
        places = [slice(start, min(start + rows, len(kernel))) for start in range(0, len(kernel), rows)]
        each = self.each if len(places) >= SHARED_PIECES else map
        penalty = sum(each(partial(self._step_of_piece, layer, entered, flow), places))
        self.optimizer.update(bias, flow.sum(axis=0), self._kept[2 * layer + 1], np.empty_like(bias))
        return penalty

    def _step_of_piece(self, layer: int, entered: Numbers, flow: Numbers, place: slice) -> float:
        weights = self.kernels[layer][place]
        try:
            buffers = self._spare.pop()
        except IndexError:  # asked in one step: another thread may take the last
            buffers = np.empty((2, self._most), self._dtype)
        gradient, spare = (one[: weights.size].reshape(weights.shape) for one in buffers)
        penalty = self._penalty(weights)
        with np.errstate(all="ignore"):  # who looks at the loss sees what is not finite
            np.matmul(entered[:, place].T, flow, out=gradient)
            if self._l2:
                gradient += np.multiply(weights, 2 * self._l2, out=spare)
            if self._l1:
                np.sign(weights, out=spare)
                spare *= self._l1
                gradient += spare
            self.optimizer.update(weights, gradient, [one[place] for one in self._kept[2 * layer]], spare)
        self._spare.append(buffers)
        return penalty

    def _penalty(self, weights: Numbers) -> float:
        found = 0.0
        if self._l1:
            found += self._l1 * float(np.abs(weights).sum())
        if self._l2:
            flat = weights.reshape(-1)
            found += self._l2 * float(flat @ flat)
        return found


def cross_entropies(outputs: Numbers, codes: Codes) -> tuple[Numbers, Numbers, int]:
    """Return what each row loses, (n,), its derivative by the logits, of their shape, and how many rows are right.

    `outputs` are (n, K), or (n, 1) for two classes, where it is the log odds of the second; `codes` are (n,).
    """
    if outputs.shape[1] == 1:
        against = (1 - 2 * codes).astype(outputs.dtype)  # turns the log odds into those of the wrong class
        wrong = outputs[:, 0] * against
        derivative = sigmoid(wrong) * against
        return np.logaddexp(0, wrong), derivative[:, None], int(((outputs[:, 0] > 0) == codes).sum())
    place = np.arange(len(codes)), codes
    centred = outputs - outputs.max(axis=1, keepdims=True)
    odds = np.exp(centred)
    total = odds.sum(axis=1)
    losses = np.log(total) - centred[place]
    odds /= total[:, None]
    odds[place] -= 1
    return losses, odds, int((outputs.argmax(axis=1) == codes).sum())
