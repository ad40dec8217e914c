"""The verdict: what the best model does, which differences may be chance, and what to mind about the data."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pipeline.evaluation.verdict import NO_DIFFERENCE
from pipeline.plots.scales import odds
from pipeline.report import charts
from pipeline.report.artefacts import Audited, Document, Evaluated
from pipeline.wording import METRICS, counted

TITLES: Final = {name: title for name, title in METRICS.items() if name != "ece"}  # which stands with its diagram
PAIRS: Final = 30

_MINDED: Final = {
    "leakage": ("test image is a copy of one that was learned from", "test images are copies of ones learned from"),
    "conflicts": ("picture has two labels", "pictures have two labels"),
    "label_issues": ("label is likely wrong", "labels are likely wrong"),
}


class Looks(NamedTuple):
    """How many results on this test split the project's history holds, and whether Git was there to tell."""

    results: int
    in_git: bool


def overview(
    judged: Sequence[Evaluated],
    compared: Document | None,
    audited: Audited | None,
    looks: Looks | None,
    *,
    random_base: bool,
) -> dict[str, Any]:
    """Return what the page says first.

    `judged` has the best first, `compared` is ``comparison.json``; `random_base` says whether the base that made the
    features was never trained.
    """
    best = judged[0]
    right = sum(a == b for a, b in zip(best.predictions.labels, best.predictions.predicted, strict=True))
    return {
        "best": best.name,
        "right": right,
        "n": len(best.predictions),
        "accuracy": estimate(best.metrics, "accuracy"),
        "sentences": [] if compared is None else [compared["verdict"], *compared["fine_tuning"]],
        "compared": compared is not None,
        "models": len(judged),
        "minded": minded(audited.counts if audited else {}),
        "looks": looks,
        "random_base": random_base,
    }


def minded(counts: Mapping[str, int], kinds: Sequence[str] = tuple(_MINDED)) -> str:
    """Say which findings of the audit touch the numbers, of these kinds; nothing where there are none."""
    return "; ".join(counted(counts[kind], *_MINDED[kind]) for kind in kinds if counts.get(kind))


def estimate(metrics: Mapping[str, float], name: str) -> tuple[float, float, float] | None:
    """Return value, low and high of a metric; None where it is not defined."""
    value, low, high = (metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return None if value is None or low is None or high is None else (value, low, high)


def ranking(judged: Sequence[Evaluated], compared: Document | None) -> dict[str, Any]:
    """Return the table of all models, the best first, and of the differences between them."""
    ranks = {place["name"]: place["rank"] for place in compared["ranking"]} if compared else {}
    found = {one.name: {name: estimate(one.metrics, name) for name in TITLES} for one in judged}
    accuracies = [numbers["accuracy"] for numbers in found.values()]
    scale = odds(value for numbers in accuracies if numbers for value in numbers)
    rows = [
        {
            "rank": ranks.get(one.name),
            "name": one.name,
            "estimates": found[one.name],
            "strip": charts.strip(*numbers, scale) if (numbers := found[one.name]["accuracy"]) else "",
            "seconds": None if one.cost is None else one.cost["seconds"],
        }
        for one in judged
    ]
    pairs = compared["pairs"] if compared else []
    return {
        "rows": rows,
        "titles": TITLES,
        "pairs": [dict(pair, shown=pair["better"] != NO_DIFFERENCE) for pair in pairs[:PAIRS]],
        "left_out": max(0, len(pairs) - PAIRS),
    }
