"""A base cut in many places at once, and what each cut is worth."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, layer_table, weights
from pipeline.backbones.engines.engine import Engine, open_engine
from pipeline.errors import InputError
from pipeline.features.probe.comparison import Candidate, Judged
from pipeline.features.resolve import Plan
from pipeline.stats import loo_ridge

MOST_CUTS: Final = 18
MOST_AT_ONCE: Final = 8  # candidates that are judged side by side: each takes up to some 200 MB


@dataclass(frozen=True)
class Bench:
    """A base cut in many places at once.

    Attributes
    ----------
    candidates : list of Candidate
        From below; those of one cut side by side.
    engine : Engine
        Its rows are the features of all candidates, one after the other.
    """

    candidates: list[Candidate]
    engine: Engine


def bench(plan: Plan, *, poolings: Sequence[str], batch_size: int) -> Bench:
    """Build a base, cut it at every rung with every pooling, and open it with the engine of the plan, at float32.

    Cut and pooling of the plan do not matter.
    """
    backbone = plan.backbone
    alpha, listed = plan.spec["backbone"]["alpha"], plan.engine == "openvino"
    base = weights.load(backbone, size=plan.size, alpha=alpha, weights=plan.weights, listed=listed)
    rows = layer_table.rungs(layer_table.layer_table(base), blocks=backbone.cuts.values(), most=MOST_CUTS)
    cuts = [(row, pooling) for row in rows for pooling in cutting.fitting(row.output_shape, poolings)]
    if not cuts:
        raise InputError.of("pooling", f"one that fits {rows[-1].name}", " or ".join(poolings))
    depths = {row.name: depth for depth, row in enumerate(dict.fromkeys(row for row, _ in cuts), start=1)}
    model, widths = cutting.trunks(backbone, base, cuts=[(row.name, pooling) for row, pooling in cuts])
    words = {layer: word for word, layer in backbone.cuts.items()}
    candidates = [
        Candidate(
            cut=words.get(row.name, row.name),
            layer=row.name,
            depth=depths[row.name],
            pooling=pooling,
            features=width,
            multiply_adds=row.multiply_adds_below,
        )
        for (row, pooling), width in zip(cuts, widths, strict=True)
    ]
    engine = open_engine(plan.engine, lambda: model, batch_size=batch_size, precision="float32", kept=None)
    return Bench(candidates, engine)


def judge(
    candidates: Sequence[Candidate], features: Sequence[NDArray[np.float16]], labels: Sequence[str]
) -> list[Judged]:
    """Judge each candidate by a ridge that leaves the image out.

    `features` are (n, features), float16, one a candidate. A candidate whose features do not fit float16 is left out,
    as `extract` would refuse it.
    """
    from threadpoolctl import threadpool_limits

    codes = np.unique(np.array(labels), return_inverse=True)[1]

    def judged(candidate: Candidate, columns: NDArray[np.float16]) -> Judged | None:
        if not np.isfinite(columns).all():
            return None
        given, errors = loo_ridge.left_out(columns, codes)
        return Judged(candidate, given == codes, errors)

    # A decomposition of this size gains little from several threads, which wait for one another busily.
    with threadpool_limits(1), ThreadPoolExecutor(min(joblib.cpu_count(), MOST_AT_ONCE)) as pool:
        # The widest, which stand last, come first: else one thread ends with these while others idle.
        return [one for one in pool.map(judged, candidates[::-1], features[::-1]) if one][::-1]
