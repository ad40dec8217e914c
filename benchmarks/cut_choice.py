"""The cut that `probe` chooses on few photos, beside the top, the best in hindsight, and a rule that trusts no test.

    python benchmarks/cut_choice.py --images DIR [--counts 4 8 15 25 50 100 400 --draws 10 --held-out 100]

All photos go forward once through EfficientNet-Lite0 with an output for every cut and pooling. Then, for each draw, so
many of a class are taken at random to choose the cut on and to train a logistic head with, and the head is judged on
`--held-out` others of each class. Printed are mean accuracy (lowest to highest) of

* top: the top with average pooling;
* chosen: what `probe` chooses, and how often that is not the top;
* unproven: the cheapest candidate that does not differ from the one with the least error, at 1.96 standard errors: what
  follows from taking "no difference found" for "no difference";
* best: the best of all candidates in hindsight.

`--simulate` needs no photos: it draws data sets in which the top is the best layer, by a little, and counts how often
another one is chosen.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from pipeline.features import resolve
from pipeline.features.probe import bench, probe, sample
from pipeline.features.probe.comparison import Candidate, Judged
from pipeline.features.probe.recommendation import recommend
from pipeline.features.settings import FeatureSettings, Proof
from pipeline.heads.logistic import LogisticHead
from pipeline.photos import manifest, prepare
from pipeline.photos.settings import PrepareSettings
from pipeline.stats import loo_ridge


def all_features(images: Path) -> tuple[list[Candidate], list[np.ndarray], np.ndarray]:
    """Return the candidates, the features of all distinct images under each, and the codes of their labels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        chosen = PrepareSettings(val_fraction=0.0, test_fraction=0.0)
        prepare.prepare(images, path, chosen, progress=lambda done, total: None)
        table = manifest.read(path)
    _, places = np.unique([digest.tobytes().hex() for digest in table.digests], return_index=True)
    table = table.take(places.tolist())
    plan = resolve.plan(FeatureSettings(size=224))
    opened = bench.bench(plan, poolings=probe.POOLINGS, batch_size=32)
    drawn = sample.Sample(images, table, plan, 32)
    rows = np.concatenate([rows.astype(np.float16) for rows in opened.engine.run(drawn.batches(len(drawn)))])
    ends = np.cumsum([one.features for one in opened.candidates])
    return opened.candidates, np.split(rows, ends[:-1], axis=1), np.unique(table.labels, return_inverse=True)[1]


def unproven(judged: list[Judged]) -> int:
    """Return the place of the cheapest that does not differ from the one with the least error."""
    best = min(judged, key=lambda one: one.squared_error)
    order = sorted(range(len(judged)), key=lambda k: (judged[k].candidate.multiply_adds, judged[k].candidate.bytes))
    for place in order:
        difference = judged[place].errors - best.errors
        near = difference.mean() <= 1.96 * difference.std() / math.sqrt(len(difference))
        if judged[place].candidate.cheaper_than(best.candidate) and near:
            return place
    return judged.index(best)


def one_draw(
    candidates: list[Candidate], features: list[np.ndarray], y: np.ndarray, count: int, held: int, draw: int
) -> tuple[float, float, float, float, bool]:
    """Return the accuracies of top, chosen, unproven and best, and whether the chosen is not the top."""
    rng = np.random.default_rng(draw)
    shuffled = [rng.permutation(np.flatnonzero(y == code)) for code in np.unique(y)]
    test = np.concatenate([own[:held] for own in shuffled])
    train = np.sort(np.concatenate([own[held : held + count] for own in shuffled]))
    judged, accuracy = [], []
    for candidate, columns in zip(candidates, features, strict=True):
        X = columns[train].astype(np.float32)
        given, errors = loo_ridge.left_out(X, y[train])
        judged.append(Judged(candidate, given == y[train], errors))
        head = LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
        probability = head.fit(X, y[train], None).predict_proba(columns[test].astype(np.float32))
        accuracy.append(float(np.mean(probability.argmax(axis=1) == y[test])))
    top = next(place for place, one in enumerate(candidates) if one.depth == candidates[-1].depth)
    found = recommend(judged, [str(code) for code in y[train]], top=judged[top], proof=Proof())
    chosen = judged.index(found.chosen)
    return accuracy[top], accuracy[chosen], accuracy[unproven(judged)], max(accuracy), chosen != top


def table(images: Path, counts: list[int], draws: int, held: int) -> None:
    """Print a row a number of photos."""
    candidates, features, y = all_features(images)
    print(f"{len(y):,} photos, {held} of each class held out, {draws} draws: mean (lowest to highest)")
    print(f"{'a class':>8}{'top':>24}{'chosen':>24}{'unproven':>24}{'best':>24}  not the top")
    for count in counts:
        arguments = [(candidates, features, y, count, held, draw) for draw in range(draws)]
        found = np.array(Parallel(n_jobs=2, prefer="threads")(delayed(one_draw)(*each) for each in arguments))
        cells = [f"{column.mean():.3f} ({column.min():.3f} to {column.max():.3f})" for column in found.T[:4]]
        left = int(found[:, 4].sum())
        print(f"{count:>8}" + "".join(f"{cell:>24}" for cell in cells) + f"  {left} of {draws}", flush=True)


def simulate(sets: int) -> None:
    """Print how often a top that is best by a little is left, over simulated data sets."""
    print(f"{sets} simulated data sets each, 31 layers of 64 features, two classes: share in which the top is left")
    for n in (8, 12, 24, 50, 200):
        cells = []
        for top, other in ((0.0, 0.0), (1.5, 1.0), (3.0, 2.5)):
            left = Parallel(n_jobs=2, prefer="threads")(delayed(_leaves)(n, top, other, seed) for seed in range(sets))
            cells.append(f"signal {top:g}, others {other:g}: {np.mean(left):.3f}")
        print(f"{n:>4} images: " + "; ".join(cells), flush=True)


def _leaves(n: int, top: float, other: float, seed: int) -> bool:
    rng = np.random.default_rng([seed, n])
    y = np.arange(n) % 2
    direction = rng.normal(size=(2, 64)) / 8
    judged = []
    for place in range(31):
        signal = top if place == 30 else other
        given, errors = loo_ridge.left_out(signal * direction[y] + rng.normal(size=(n, 64)), y)
        judged.append(Judged(Candidate(str(place), str(place), place + 1, "avg", 64, place), given == y, errors))
    found = recommend(judged, [str(code) for code in y], top=judged[-1], proof=Proof())
    return found.chosen is not judged[-1]


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of photos, as `prepare` takes it")
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8, 15, 25, 50, 100, 400])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--held-out", type=int, default=100, help="of each class")
    parser.add_argument("--simulate", type=int, metavar="SETS", default=0)
    chosen = parser.parse_args()
    if chosen.simulate:
        simulate(chosen.simulate)
    if chosen.images:
        table(chosen.images, chosen.counts, chosen.draws, chosen.held_out)


if __name__ == "__main__":
    main()
