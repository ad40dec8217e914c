"""A path from strong to weak penalties, all folds side by side, judged on what each fold holds out as it goes.

A search compares candidates, so that their fits need to be no better than the comparison: a fit stops where its loss on
the rows held out no longer moves, and the path stops where it is losing. J. Friedman, T. Hastie, R. Tibshirani,
"Regularization paths for generalized linear models via coordinate descent", Journal of Statistical Software 33 (2010),
start each fit where the last one ended; here it starts on the line through the last two.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.solvers.curvature import Points, Spectrum, Which
from pipeline.heads.solvers.logistic_objective import Objective, Penalty
from pipeline.types import Floats

COLUMNS: Final = 25  # outputs of all problems side by side
STRIDE: Final = 5  # strengths of them at most
RISING: Final = (
    2  # strengths of them where the loss rises: the path may soon be losing, and its weak penalties are dear
)
SIDE_BY_SIDE: Final = 2**22  # numbers in the points of all problems, 16 MB; the solver keeps some 25 times that
# A fit ends when a step moves its loss held out by less than this share of the standard error and its gap is near, or
# nearer: in nats, or with an L1 penalty the gradient's largest entry.
MOVED: Final = 0.02
NEAR, NEARER = 1e-3, 1e-5
LOSING: Final = 2  # standard errors above the least loss of the path


class Tried(NamedTuple):
    """Of one penalty: mean loss held out, its standard error, accuracy, and the mean (size,) of the folds' points."""

    loss: float
    error: float
    accuracy: float
    point: Points


class Path(NamedTuple):
    """What is walked: rows to fit on and held out, the folds' numbers of rows (F,), a start (size,), the spectrum."""

    objective: Objective
    counts: Floats
    held: Floats
    start: Points
    spectrum: Spectrum
    n_outputs: int


def walk(
    path: Path, strengths: Sequence[float], ratio: float, *, max_iter: int, progress: Callable[[int], object]
) -> list[Tried | None]:
    """Fit each of the ascending strengths C on each fold; None from where the path was losing.

    `path` holds the weights (F, n) of the rows held out, `ratio` is the share of the L1 penalty; one fit takes
    `max_iter` steps at most. `progress` is told how many strengths are done.
    """
    n_folds = len(path.counts)
    stride = min(STRIDE, COLUMNS // (n_folds * path.n_outputs), SIDE_BY_SIDE // (n_folds * len(path.start)))
    last, step = np.tile(path.start, (n_folds, 1)), np.zeros((n_folds, len(path.start)), path.start.dtype)
    judge = _Judge(path.held)
    tried: list[Tried | None] = []
    while len(tried) < len(strengths) and not _losing(tried):
        count = min(stride, RISING) if _rising(tried) else stride
        C = np.array(strengths[len(tried) : len(tried) + max(1, count)])
        folds, place = np.repeat(np.arange(n_folds), len(C)), np.tile(np.arange(len(C)), n_folds)
        found = path.objective.minimise(
            (last + step)[folds],
            folds,
            Penalty.of(C[place], np.full(len(folds), ratio), path.counts[folds]),
            path.spectrum,
            ended=judge.ended(folds),
            max_iter=max_iter,
        )
        points = found.points.reshape(n_folds, len(C), -1)
        sums = found.aside.reshape(n_folds, len(C), -1).sum(axis=0)
        tried += [Tried(*judge.score(one), point) for one, point in zip(sums, points.mean(axis=0), strict=True)]
        before = points[:, -2] if len(C) > 1 else last
        if len(tried) > 1:
            step = np.where(points[:, -1] == 0, 0, points[:, -1] - before).astype(
                before.dtype
            )  # what L1 left out stays
        last = points[:, -1]
        progress(len(tried))
    return tried + [None] * (len(strengths) - len(tried))


def _rising(tried: Sequence[Tried | None]) -> bool:
    """Return whether the last lies above the one before it."""
    known = [one for one in tried if one]
    return len(known) > 1 and known[-1].loss > known[-2].loss


def _losing(tried: Sequence[Tried | None]) -> bool:
    """Return whether the last two lie above the least by more than its standard errors, and rise."""
    known = [one for one in tried if one]
    if len(known) < 3:
        return False
    best = min(known, key=lambda one: one.loss)
    return known[-1].loss > known[-2].loss > best.loss + LOSING * best.error


class _Judge:
    """Mean losses on the rows held out, of weights (F, n), from the sums that a pass over the rows tells."""

    def __init__(self, held: Floats) -> None:
        self._total, self._squares = held.sum(axis=1), np.square(held).sum(axis=1)

    def score(self, sums: Floats) -> tuple[float, float, float]:
        """Return mean loss, standard error of the mean, and accuracy, from sums (4,) over all folds."""
        total, squares = self._total.sum(), self._squares.sum()
        mean = sums[0] / total
        error = np.sqrt(max(0.0, sums[2] - 2 * mean * sums[1] + mean**2 * squares)) / total
        return float(mean), float(error), float(sums[3] / total)

    def ended(self, folds: NDArray[np.intp]) -> Callable[[Which, Floats, Floats], NDArray[np.bool_]]:
        """Return what tells which problems, on these folds, are near enough to their optimum to be compared."""
        before = np.full(len(folds), np.inf)

        def ended(which: Which, gaps: Floats, sums: Floats) -> NDArray[np.bool_]:
            total, squares = self._total[folds[which]], self._squares[folds[which]]
            mean = sums[:, 0] / total
            spread = np.maximum(0.0, sums[:, 2] - 2 * mean * sums[:, 1] + np.square(mean) * squares)
            error = np.sqrt(spread / (total * self._total.sum()))  # of the mean over all folds, as this fold tells it
            still = np.abs(mean - before[which]) < MOVED * error
            before[which] = mean
            return np.asarray((still & (gaps < NEAR)) | (gaps < NEARER))

        return ended
