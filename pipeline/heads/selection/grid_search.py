"""Which candidate of a head's grid is the simplest among those that are as good as the best.

Candidates are compared on rows that had no part in their fit: the validation split, or folds of the training split.
What decides is the mean loss, -ln(probability of the label), which sees more than the mistakes. The simplest candidate
whose mean loss is within one standard error of the least wins: Breiman, Friedman, Olshen, Stone, "Classification and
regression trees" (1984), section 3.4.3, whose standard error is that of a mean over the cases, too.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads import registry
from pipeline.heads.head import Head
from pipeline.heads.logistic import LogisticHead, Near
from pipeline.heads.selection.cross_validation import Fold
from pipeline.heads.standardise import Table
from pipeline.heads.store import SEARCH_FILE
from pipeline.plots import training_curves
from pipeline.stats.score_intervals import log_losses
from pipeline.storage.atomic import publish_csv
from pipeline.types import Codes, Progress

PLOT_FILE: Final = "search.png"
NOT_TRIED: Final = "not tried: losing"

Kind = TypeVar("Kind", bound=Head)


@dataclass(frozen=True)
class Search:
    """How to search.

    Parameters
    ----------
    folds : int
        0: fit on the training split, compare on the validation split. From 2: so many folds of the training split.
    trials : int
        Candidates at most; of a larger grid so many are drawn.
    fixed : frozenset of str
        Parameters that keep their value, whatever the grid says.
    jobs : int
        Folds at a time, where the head does not share the work by itself.
    seed : int
        Of the folds, and of the candidates that are drawn.
    """

    folds: int
    trials: int
    fixed: frozenset[str]
    jobs: int
    seed: int


class Trial(NamedTuple):
    """One candidate and how it did on the rows held out.

    Attributes
    ----------
    params : dict
        What it replaces in the head.
    loss, error : float
        Mean loss in nats, and the standard error of this mean.
    accuracy : float
        Fraction of rows whose most probable class is theirs.
    """

    params: dict[str, Any]
    loss: float
    error: float
    accuracy: float


class Outcome(NamedTuple):
    """All trials from the simplest on, the places of the `best` and of the `chosen`, and how many rows were judged.

    `losing` are candidates that were not tried, since the loss along their path rises far above the least.
    """

    trials: list[Trial]
    best: int
    chosen: int
    rows: int
    losing: Sequence[dict[str, Any]] = ()


def candidates(head: Head, search: Search) -> list[dict[str, Any]]:
    """Return the candidates from the simplest to the least simple.

    InputError if the head has no parameter that could be searched, or all of them are fixed.
    """
    grid = {name: values for name, values in head.grid().items() if name not in search.fixed}
    if not grid:
        known = ", ".join(head.grid()) or "none"
        raise InputError(
            f"`search`: expected a parameter of `head` {registry.name_of(head)} that is left open, received none: "
            f"searched are {known}, unless they are given a value"
        )
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(every) <= search.trials:
        return every
    drawn = np.random.default_rng(search.seed).choice(len(every), search.trials, replace=False)
    return [every[place] for place in np.sort(drawn)]


def run(
    head: Kind,
    X: Table,
    y: Codes,
    folds: Sequence[Fold],
    search: Search,
    weights: NDArray[np.float64],
    progress: Progress | None,
) -> tuple[Kind, Outcome]:
    """Fit every candidate on every fold, judge it on what the fold holds out, and choose.

    Parameters
    ----------
    head : Head
        Not fitted; candidates replace some of its parameters.
    X, y : Table of shape (n, d), ndarray of shape (n,)
        Rows to fit on.
    folds : sequence of Fold
    search : Search
    weights : ndarray of shape (K,)
        Of the classes, in the means.
    progress : callable or None
        Called with (done, total).

    Returns
    -------
    head : Head
        Not fitted, with the parameters that were chosen.
    outcome : Outcome

    Raises
    ------
    InputError
        There is nothing to search, or a candidate cannot be fitted.
    """
    grid = candidates(head, search)
    codes = np.concatenate([fold.held[1] for fold in folds])
    if isinstance(head, LogisticHead):
        tried, spectrum = head.search(X, y, folds, grid, weights, progress)
        judged = [(Trial(params, *one[:3]), one.point) for params, one in zip(grid, tried, strict=True) if one]
        outcome = _choose([trial for trial, _ in judged], len(codes))
        chosen = replace(head, **outcome.trials[outcome.chosen].params)
        chosen.near = Near(judged[outcome.chosen][1], spectrum)
        losing = [params for params, one in zip(grid, tried, strict=True) if one is None]
        return chosen, outcome._replace(losing=losing)
    fitted = head.fit_grid(X, y, folds, grid, jobs=search.jobs, progress=progress)
    probability = [
        np.vstack([registry.predict(one[place], fold.held[0]) for one, fold in zip(fitted, folds, strict=True)])
        for place in range(len(grid))
    ]
    trials = [_judge(params, found, codes, weights[codes]) for params, found in zip(grid, probability, strict=True)]
    outcome = _choose(trials, len(codes))
    return replace(head, **grid[outcome.chosen]), outcome


def _choose(trials: list[Trial], rows: int) -> Outcome:
    best = min(range(len(trials)), key=lambda place: trials[place].loss)
    limit = trials[best].loss + trials[best].error
    chosen = next(place for place, trial in enumerate(trials) if trial.loss <= limit)
    return Outcome(trials, best, chosen, rows)


def write(outcome: Outcome, directory: Path) -> None:
    """Write all trials as a table and as a picture.

    ``search.csv``: a row a candidate, from the simplest: its parameters, loss, loss_low and loss_high (one standard
    error either way), accuracy, and choice (best, chosen, both with a space, or nothing). Last come the candidates that
    were not tried: no numbers, and the choice says why.
    """
    names = list(outcome.trials[0].params)
    rows = []
    for place, trial in enumerate(outcome.trials):
        marks = [mark for mark, at in (("best", outcome.best), ("chosen", outcome.chosen)) if at == place]
        low, high = trial.loss - trial.error, trial.loss + trial.error
        numbers = [f"{number:.6g}" for number in (trial.loss, low, high, trial.accuracy)]
        rows.append([*(_text(trial.params[name]) for name in names), *numbers, " ".join(marks)])
    rows += [[*(_text(params[name]) for name in names), *[""] * 4, NOT_TRIED] for params in outcome.losing]
    publish_csv(directory / SEARCH_FILE, [*names, "loss", "loss_low", "loss_high", "accuracy", "choice"], rows)
    training_curves.search_path(
        [trial.params for trial in outcome.trials],
        np.array([[trial.loss, trial.error, trial.accuracy] for trial in outcome.trials]),
        best=outcome.best,
        chosen=outcome.chosen,
        path=directory / PLOT_FILE,
        title=f"{len(outcome.trials):,} candidates on {outcome.rows:,} images held out"
        + (f"; {len(outcome.losing):,} {NOT_TRIED}" if outcome.losing else ""),
    )


def _text(value: object) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def _judge(
    params: Mapping[str, Any], probability: NDArray[np.float64], y: Codes, weights: NDArray[np.float64]
) -> Trial:
    losses = log_losses(y, probability)
    share = weights / weights.sum()
    mean = float(share @ losses)
    error = float(np.sqrt(np.square(share) @ np.square(losses - mean)))
    return Trial(dict(params), mean, error, float(share @ (probability.argmax(axis=1) == y)))
