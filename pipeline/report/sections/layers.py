"""Where the base is cut: what `probe` found at every layer, and of every base it compared."""

from typing import Any

from pipeline.plots.layer_scores import Rung, scored_layers
from pipeline.report import charts
from pipeline.report.artefacts import Probed, Row, numeric


def layers(probed: Probed | None) -> dict[str, Any] | None:
    """Return what the page says of the cut; None without `probe`."""
    if probed is None:
        return None
    cut = probed.cut
    words = {row.get("layer", ""): row["cut"] for row in probed.layers}
    chosen = (words.get(str(cut["cut"]), str(cut["cut"])), str(cut["pooling"]))
    rungs = [
        Rung(
            int(row["depth"]),
            row["cut"],
            row["pooling"],
            *_estimate(row),
            multiply_adds=numeric(row, "multiply_adds"),
        )
        for row in probed.layers
    ]
    found = scored_layers(rungs, chosen) if rungs else None
    return {
        "why": cut["why"],
        "backbone": cut["backbone"],
        "chart": found and charts.layers(found),
        "poolings": list(found.lines) if found else [],
        "chosen": found.words if found else "",
        "rows": [
            {
                "cut": row["cut"],
                "pooling": row["pooling"],
                "estimate": _estimate(row),
                "shown": row["shown"],
                "bytes": int(row["bytes"]),
                "multiply_adds": numeric(row, "multiply_adds"),
            }
            for row in probed.layers
        ],
        "backbones": [dict(row, estimate=_estimate(row)) for row in probed.backbones],
    }


def _estimate(row: Row) -> tuple[float, float, float]:
    return numeric(row, "accuracy"), numeric(row, "accuracy_low"), numeric(row, "accuracy_high")
