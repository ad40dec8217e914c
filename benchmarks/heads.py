"""How long a search over strengths takes, against scikit-learn's LogisticRegressionCV on the same grid and folds.

    python benchmarks/heads.py [MANIFEST.csv FEATURES.h5 | --rows 2000 --columns 1280 --classes 2]
                               [--strengths 20 --folds 5 --rounds 3]

The features are the training rows of a project, or synthetic ones with the spectrum of pooled features: a few hundred
directions whose spread falls off, seen through a rectifier. Both ways get the same float64 columns of mean 0 and
deviation 1, fit every strength on every fold, judge each by log loss on what the fold left out, and fit once more on
all rows with the best. They take turns.

scikit-learn runs twice: with its default tolerance, and with the one that brings its coefficients as near to the
optimum as ours are. Printed are the median of the seconds, the ratio to ours, and of the fits on the first fold, as the
worst over all strengths: the excess of the objective over the least that any of them reached, and how far the
coefficients are from the optimum (found by a third solver, Newton's method), relative to their length. Last comes the
accuracy on what that fold left out, at the best strength.

With --l1-ratio above 0 scikit-learn's solver is SAGA, which takes hours at weak penalties: give --rows 500
--columns 200 then. Coefficients need not be unique there, so it is the objective that counts, and --no-reference that
applies. Rows that memory does not hold: `benchmarks/larger_than_memory.py`.
"""

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit

from pipeline.features.features_file import Features
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.selection.cross_validation import Fold, assign
from pipeline.photos import manifest
from pipeline.stats.score_intervals import log_losses


def features(rows: int, columns: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 columns of mean 0 and deviation 1, and codes."""
    draw = np.random.default_rng(seed)
    rank = min(200, columns)
    spread = np.exp(-np.arange(rank) / 60)
    y = np.arange(rows) % classes
    hidden = (draw.normal(size=(rows, rank)) + 0.5 * draw.normal(size=(classes, rank))[y]) * spread
    X = np.maximum(hidden @ draw.normal(size=(rank, columns)) + 0.5 * draw.normal(size=(rows, columns)), 0.0)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def cached(manifest_path: Path, features_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows of a project as float64 columns of mean 0 and deviation 1, and codes."""
    table = manifest.read(manifest_path).distinct("train")
    with Features(features_path) as stored:
        X = stored.gather_views(table.digests)[:, 0].astype(np.float64)
    scale = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(scale > 0, scale, 1.0), np.unique(table.labels, return_inverse=True)[1]


def ours(X: np.ndarray, y: np.ndarray, folds: np.ndarray, strengths: list[float], ratio: float) -> Any:
    """Search as `headstart train --search` does, and fit with the strength of least loss; return the path of fold 0."""
    head = LogisticHead(C=1.0, l1_ratio=ratio, class_weight=None, max_iter=10_000, seed=0)
    parts = [Fold(np.flatnonzero(folds != k), (X[folds == k], y[folds == k])) for k in range(folds.max() + 1)]
    fitted = head.fit_grid(X, y, parts, [{"C": C} for C in strengths], jobs=1, progress=None)
    losses = [
        np.mean([log_losses(part.held[1], one[place].predict_proba(part.held[0])).mean() for one, part in pairs])
        for place in range(len(strengths))
        for pairs in [list(zip(fitted, parts, strict=True))]
    ]
    LogisticHead(C=strengths[int(np.argmin(losses))], l1_ratio=ratio, class_weight=None, max_iter=10_000, seed=0).fit(
        X, y, None
    )
    return fitted[0]


def theirs(
    X: np.ndarray, y: np.ndarray, folds: np.ndarray, strengths: list[float], ratio: float, tolerance: float
) -> None:
    """Run LogisticRegressionCV on the same."""
    LogisticRegressionCV(
        Cs=strengths,
        cv=PredefinedSplit(folds),
        l1_ratios=(ratio,),
        solver="saga" if ratio else "lbfgs",
        tol=tolerance,
        max_iter=10_000,
        scoring="neg_log_loss",
        use_legacy_attributes=False,
    ).fit(X, y)


def their_path(
    X: np.ndarray, y: np.ndarray, strengths: list[float], ratio: float, tolerance: float, solver: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return scikit-learn's coefficients and intercepts at each strength, each fit started where the last one ended."""
    model = LogisticRegression(l1_ratio=ratio, solver=solver, tol=tolerance, max_iter=10_000, warm_start=True)
    found = []
    for C in strengths:
        model.set_params(C=C).fit(X, y)
        found.append((model.coef_.copy(), model.intercept_.copy()))
    return found


def objective(X: np.ndarray, y: np.ndarray, C: float, ratio: float, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Return scikit-learn's objective."""
    logits = X @ coef.T + intercept
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    top = logits.max(axis=1)
    losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(y)), y]
    return C * losses.sum() + ratio * np.abs(coef).sum() + (1 - ratio) / 2 * np.square(coef).sum()


def accuracy(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Return the share of rows that are given their class."""
    logits = X @ coef.T + intercept
    given = logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
    return float((given == y).mean())


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="with FEATURES: its training images instead")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--columns", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--strengths", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--l1-ratio", type=float, default=0.0)
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of scikit-learn, the second time")
    parser.add_argument(
        "--no-reference",
        dest="reference",
        action="store_false",
        help="take the least objective of those compared for the optimum, and leave Newton's method out, which is slow",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    if chosen.manifest:
        X, y = cached(chosen.manifest, chosen.features)
    else:
        X, y = features(chosen.rows, chosen.columns, chosen.classes, chosen.seed)
    digests = np.random.default_rng(chosen.seed).integers(0, 256, (len(y), 32), dtype=np.uint8)
    folds = assign(digests, y, folds=chosen.folds, seed=chosen.seed)
    strengths = np.logspace(-5, 2, chosen.strengths).tolist()
    ratio = chosen.l1_ratio
    tolerances = (1e-4, chosen.tolerance)
    ways = {
        "headstart": lambda: ours(X, y, folds, strengths, ratio),
        "LogisticRegressionCV": lambda: theirs(X, y, folds, strengths, ratio, 1e-4),
        f"the same, tol={chosen.tolerance:g}": lambda: theirs(X, y, folds, strengths, ratio, chosen.tolerance),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    path: Any = None
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found = way()
            seconds[name].append(time.perf_counter() - started)
            path = found if found is not None else path

    inside = folds != 0
    Z, codes = X[inside], y[inside]
    mean, scale = Z.mean(axis=0), Z.std(axis=0)
    Z, held = (Z - mean) / scale, (X[~inside] - mean) / scale
    solver = "saga" if ratio else "lbfgs"
    paths = [[(head.arrays_["coef_"], head.arrays_["intercept_"]) for head in path]]
    paths += [their_path(Z, codes, strengths, ratio, tolerance, solver) for tolerance in tolerances]
    print(
        f"{X.shape[0]:,} x {X.shape[1]:,}, {y.max() + 1} classes, {chosen.strengths} strengths, {chosen.folds} folds, "
        f"l1_ratio {ratio:g}, {chosen.rounds} rounds"
    )
    values = np.array(
        [[objective(Z, codes, C, ratio, *at) for C, at in zip(strengths, one, strict=True)] for one in paths]
    )
    least = values.min(axis=0)
    if chosen.reference:
        best = their_path(Z, codes, strengths, ratio, 1e-10, "newton-cg")
    else:
        best = [paths[row][place] for place, row in enumerate(values.argmin(axis=0))]
    print(f"{'':28}{'seconds':>9}{'ratio':>8}{'excess of objective':>21}{'off the optimum':>17}{'accuracy':>10}")
    for (name, took), one, excess in zip(seconds.items(), paths, (values / least - 1).max(axis=1), strict=True):
        times = statistics.median(each / other for each, other in zip(took, seconds["headstart"], strict=True))
        far = max(
            np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300) for (a, _), (b, _) in zip(one, best, strict=True)
        )
        right = max(accuracy(held, y[~inside], *at) for at in one)
        print(f"{name:28}{statistics.median(took):9.2f}{times:8.2f}{excess:21.1e}{far:17.1e}{right:10.4f}")


if __name__ == "__main__":
    main()
