"""How long a search over strengths takes, against scikit-learn's LogisticRegressionCV on the same grid and folds.

    python benchmarks/heads.py [MANIFEST.csv FEATURES.h5 | --rows 2000 --columns 1280 --classes 2 --hard]
                               [--strengths 15 --folds 5 --rounds 3]

The features are the training rows of a project, or synthetic ones with the spectrum of pooled features: a few hundred
directions whose spread falls off, seen through a rectifier. With --hard the classes lie nearer and 3 % of the labels
are wrong, so that the loss has a least value within the grid; without it the classes are separable. Both ways get the
same float64 columns of mean 0 and deviation 1, judge every strength by log loss on what each fold leaves out, and fit
once more on all rows with the best. They take turns, and BLAS has one thread for both.

Printed are the medians of CPU and wall seconds (on a machine that others use, wall seconds wander), the ratio of CPU
seconds to ours, the least loss held out, the strength where it is, how many were not tried since they were losing, and
how far the coefficients of the last fit are from the optimum at its strength, relative to their length (found by a
third solver, Newton's method, which is slow: --no-reference leaves it out).

With --l1-ratio above 0 scikit-learn's solver is SAGA, which takes hours at weak penalties: give --rows 500
--columns 200 then. Coefficients need not be unique there. Rows that memory does not hold:
`benchmarks/larger_than_memory.py`.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from pipeline.features.features_file import Features
from pipeline.heads.logistic import LogisticHead, Near
from pipeline.heads.selection.cross_validation import Fold, assign
from pipeline.photos import manifest

MAX_ITER = 10_000


class Found(NamedTuple):
    """What a search found: the least loss held out, its strength, how many were not tried, the last coefficients."""

    loss: float
    C: float
    losing: int
    coef: np.ndarray


def features(rows: int, columns: int, classes: int, seed: int, *, hard: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 columns of mean 0 and deviation 1, and codes."""
    draw = np.random.default_rng(seed)
    rank = min(200, columns)
    spread = np.exp(-np.arange(rank) / 60)
    y = np.arange(rows) % classes
    apart = 0.2 if hard else 0.5
    hidden = (draw.normal(size=(rows, rank)) + apart * draw.normal(size=(classes, rank))[y]) * spread
    X = np.maximum(hidden @ draw.normal(size=(rank, columns)) + 0.5 * draw.normal(size=(rows, columns)), 0.0)
    if hard:
        wrong = draw.random(rows) < 0.03
        y[wrong] = draw.integers(0, classes, wrong.sum())
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def cached(manifest_path: Path, features_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows of a project as float64 columns of mean 0 and deviation 1, and codes."""
    table = manifest.read(manifest_path).distinct("train")
    with Features(features_path) as stored:
        X = stored.gather(table.digests).reshape(len(table), -1).astype(np.float64)
    scale = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(scale > 0, scale, 1.0), np.unique(table.labels, return_inverse=True)[1]


def ours(X: np.ndarray, y: np.ndarray, folds: np.ndarray, strengths: list[float], ratio: float) -> Found:
    """Search as `headstart train --search` does, and fit with the strength of least loss."""
    head = LogisticHead(C=1.0, l1_ratio=ratio, class_weight=None, max_iter=MAX_ITER, seed=0)
    parts = []
    for fold in range(folds.max() + 1):
        held = np.flatnonzero(folds == fold)
        parts.append(Fold(np.flatnonzero(folds != fold), (X[held], y[held]), held))
    tried, spectrum = head.search(X, y, parts, [{"C": C} for C in strengths], np.ones(y.max() + 1), None)
    known = [(one.loss, C, one.point) for one, C in zip(tried, strengths, strict=True) if one]
    loss, head.C, point = min(known, key=lambda one: one[0])
    head.near = Near(point, spectrum)
    return Found(loss, head.C, len(tried) - len(known), head.fit(X, y, None).arrays_["coef_"])


def theirs(X: np.ndarray, y: np.ndarray, folds: np.ndarray, strengths: list[float], ratio: float) -> Found:
    """Run LogisticRegressionCV on the same."""
    model = LogisticRegressionCV(
        Cs=strengths,
        cv=PredefinedSplit(folds),
        l1_ratios=(ratio,),
        solver="saga" if ratio else "lbfgs",
        tol=1e-4,
        max_iter=MAX_ITER,
        scoring="neg_log_loss",
        use_legacy_attributes=False,
    ).fit(X, y)
    return Found(-float(model.scores_.mean(axis=0).max()), float(model.C_), 0, model.coef_)


def distance(X: np.ndarray, y: np.ndarray, found: Found, ratio: float) -> float:
    """Return how far the coefficients are from the optimum of their strength, relative to its length."""
    best = LogisticRegression(C=found.C, l1_ratio=ratio, solver="newton-cg", tol=1e-10, max_iter=MAX_ITER).fit(X, y)
    return float(np.linalg.norm(found.coef - best.coef_) / np.linalg.norm(best.coef_))


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="with FEATURES: its training images instead")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--columns", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument(
        "--hard", action="store_true", help="classes that lie nearer, and labels of which 3 %% are wrong"
    )
    parser.add_argument("--strengths", type=int, default=15)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--l1-ratio", type=float, default=0.0)
    parser.add_argument("--no-reference", dest="reference", action="store_false", help="print no distance")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    if chosen.manifest:
        X, y = cached(chosen.manifest, chosen.features)
    else:
        X, y = features(chosen.rows, chosen.columns, chosen.classes, chosen.seed, hard=chosen.hard)
    digests = np.random.default_rng(chosen.seed).integers(0, 256, (len(y), 32), dtype=np.uint8)
    folds = assign(digests, y, folds=chosen.folds, seed=chosen.seed)
    strengths = np.logspace(-5, 2, chosen.strengths).tolist()
    ratio = chosen.l1_ratio
    ways: dict[str, Callable[..., Found]] = {"headstart": ours, "LogisticRegressionCV": theirs}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, Found] = {}
    with threadpool_limits(1):
        for _ in range(chosen.rounds):
            for name, way in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                found[name] = way(X, y, folds, strengths, ratio)
                took[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    print(
        f"{X.shape[0]:,} x {X.shape[1]:,}, {y.max() + 1} classes, {chosen.strengths} strengths, {chosen.folds} folds, "
        f"l1_ratio {ratio:g}, {chosen.rounds} rounds"
    )
    print(f"{'':22}{'CPU s':>8}{'wall s':>8}{'ratio':>7}{'least loss':>12}{'at C':>9}{'losing':>8}{'distance':>10}")
    own = statistics.median(cpu for cpu, _ in took["headstart"])
    for name, seconds in took.items():
        cpu, wall = (statistics.median(times) for times in zip(*seconds, strict=True))
        loss, C, losing, _ = found[name]
        far = f"{distance(X, y, found[name], ratio):.0e}" if chosen.reference and not ratio else ""
        print(f"{name:22}{cpu:8.2f}{wall:8.2f}{cpu / own:7.2f}{loss:12.5f}{C:9.2g}{losing:8}{far:>10}", flush=True)


if __name__ == "__main__":
    main()
