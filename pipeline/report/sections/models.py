"""One head or model: how it was made, how it learned, how far its confidence can be trusted, and where it errs."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.features.spec import flat
from pipeline.heads.selection.grid_search import NOT_TRIED
from pipeline.photos.remote import Root
from pipeline.plots import evaluation, training_curves
from pipeline.plots.evaluation import Bin
from pipeline.report import charts, thumbnails
from pipeline.report.artefacts import Evaluated, Row, numeric
from pipeline.report.sections.gallery import Gallery
from pipeline.report.sections.overview import estimate
from pipeline.stats import metrics

Explain = Callable[[Evaluated, Sequence[Root], Sequence[str]], Sequence[NDArray[np.uint8] | None]]

MATRIX: Final = 25  # classes of which a whole confusion matrix can be read
CONFUSIONS: Final = 30  # pairs of classes that are listed where it cannot
CLASSES: Final = 60  # rows of the table of classes; of more, those of least F1
MISTAKES: Final = 12
PICTURE_SIDE: Final = 224  # px
ENLARGED_SIDE: Final = 128  # px, of an image of few pixels
SHADES: Final = 9
_SEARCHED: Final = ("loss", "loss_low", "loss_high", "accuracy", "choice")
_BIN: Final = ("images", "confidence", "accuracy", "accuracy_low", "accuracy_high")
_PER_CLASS: Final = ("precision", "recall", "f1")


def made(one: Evaluated) -> dict[str, Any]:
    """Return how a head or model was made: kind, parameters, search, curves."""
    return {
        "name": one.name,
        "kind": _kind(one),
        "parameters": _parameters(one),
        "search": _search(one.search),
        "curves": _curves(one.curves),
        "marked": _marked(one.curves),
    }


def _kind(one: Evaluated) -> str:
    if one.record is None:
        return ""
    if "head" in one.record and isinstance(one.record["head"], str):
        kind = one.record["head"]
        return "" if kind == one.name else f"a {kind} head"
    tuned = one.record.get("made", {}).get("finetuning")
    return "base and head, fine-tuned" if tuned else "base and head, joined as they are"


def _parameters(one: Evaluated) -> list[tuple[str, str]]:
    """Return name and value of all that was chosen for it, and what it learned from."""
    record = one.record or {}
    found: dict[str, Any] = dict(flat(record.get("params", {})))
    found |= dict(flat(record.get("made", {}).get("finetuning") or {}))
    for name in ("n_features", "n_parameters"):
        if name in record:
            found[name.replace("n_", "", 1)] = record[name]
    for split in ("train", "val", "out_of_fold"):
        if record.get(split):
            found[f"{split.replace('_', '-')} accuracy"] = (
                f"{record[split]['accuracy']:.4f} of {record[split]['rows']:,}"
            )
    found |= {f"threshold.{key}": value for key, value in flat(record.get("threshold") or {})}
    if record.get("calibration"):
        found["temperature"] = record["calibration"]["temperature"]
    return [(name, _written(value)) for name, value in found.items()]


def _written(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _search(rows: Sequence[Row]) -> dict[str, Any] | None:
    if not rows:
        return None
    losing = sum(row["choice"] == NOT_TRIED for row in rows)
    rows = [row for row in rows if row["choice"] != NOT_TRIED]
    params = [{name: _typed(text) for name, text in row.items() if name not in _SEARCHED} for row in rows]
    losses, highs = ([numeric(row, name) for row in rows] for name in ("loss", "loss_high"))
    best, chosen = (
        next(place for place, row in enumerate(rows) if mark in row["choice"].split()) for mark in ("best", "chosen")
    )
    found = training_curves.search(params, losses, highs)
    return {
        "chart": charts.search(found, losses, limit=highs[best], chosen=chosen),
        "candidates": len(rows),
        "losing": f"{losing:,} more {NOT_TRIED}" if losing else "",
        "chosen": ", ".join(f"{name} {rows[chosen][name]}" for name in params[0]),
        "legend": list(enumerate(found.curves)) if len(found.curves) > 1 else [],
    }


def _typed(text: str) -> str | float:
    value = numeric({"": text}, "")
    return value if math.isfinite(value) else text


def _curves(rows: Sequence[Row]) -> list[Any]:
    history = [{name: numeric(row, name) for name in row} | {"phase": row.get("phase")} for row in rows]
    return [charts.curves(training_curves.curves(history, what)) for what in ("loss", "accuracy")] if history else []


def _marked(rows: Sequence[Row]) -> str:
    """Say what is marked in the curves; an evaluation of an earlier version tells no phases."""
    kept = "; ringed is the epoch that is kept" if any(row.get("kept") == "1" for row in rows) else ""
    tuned = len({row.get("phase") for row in rows}) > 1
    return f"{kept}; at the dotted line fine-tuning starts" if tuned else kept


def errors(one: Evaluated, gallery: Gallery, root: Root, explain: Explain | None) -> dict[str, Any]:
    """Return how far a model can be trusted, and where it errs.

    `root` is the image root: the mistakes are shown larger than a thumbnail. `explain` is given the evaluation, files
    and the classes that they are asked about, and returns each picture with what speaks for its class laid over it, or
    None.
    """
    found = one.predictions
    wrong = mistaken(one)
    shown = _mistakes(one, wrong[:MISTAKES], gallery, root, explain)
    return {
        "name": one.name,
        "n": len(found),
        "mistakes": len(wrong),
        "shown": shown,
        "explained": explain is not None,
        "reliability": _reliability(one),
        "log_loss": estimate(one.metrics, "log_loss"),
        "classes": _classes(one.classes),
        "classes_left_out": max(0, len(one.classes) - CLASSES),
        "upright": max(map(len, found.classes)) <= 3,
        "confusion": _confusion(one) if len(found.classes) <= MATRIX else None,
        "confusions": _confusions(one),
    }


def mistaken(one: Evaluated) -> list[int]:
    """Return the rows of the mistakes, the most confident first."""
    found = one.predictions
    wrong = [row for row in range(len(found)) if found.labels[row] != found.predicted[row]]
    return sorted(wrong, key=lambda row: (-confidence(one, row), found.paths[row]))


def confidence(one: Evaluated, row: int) -> float:
    """Return the probability of the class that an image was given."""
    found = one.predictions
    return float(found.probabilities[row, found.classes.index(found.predicted[row])])


def _mistakes(
    one: Evaluated, rows: Sequence[int], gallery: Gallery, root: Root, explain: Explain | None
) -> list[dict[str, Any]]:
    found = one.predictions
    files = [root / found.paths[row] for row in rows]
    overlaid = explain(one, files, [found.predicted[row] for row in rows]) if explain else [None] * len(rows)
    digests = [bytes.fromhex(found.digests[row]) for row in rows]
    images = [thumbnails.one(file, digest, PICTURE_SIDE) for file, digest in zip(files, digests, strict=True)]
    return [
        {
            "picture": gallery.number(digest),
            "path": found.paths[row],
            "label": found.labels[row],
            "predicted": found.predicted[row],
            "confidence": confidence(one, row),
            "image": _image(image),
            "heat": None if image is None else _image(heat),  # of a photo that changed there is neither
        }
        for row, digest, image, heat in zip(rows, digests, images, overlaid, strict=True)
    ]


def _image(pixels: NDArray[np.uint8] | None) -> dict[str, Any] | None:
    if pixels is None:
        return None
    shown, small = thumbnails.enlarged(pixels, ENLARGED_SIDE)
    return {
        "address": thumbnails.address(thumbnails.encoded(shown, None if small else 80)),
        "width": shown.shape[1],
        "height": shown.shape[0],
    }


def _classes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    kept = rows
    if len(rows) > CLASSES:
        kept = sorted(rows, key=lambda row: numeric(row, "f1") if row["f1"] else 2.0)[:CLASSES]
    return [
        {
            "label": row["label"],
            "images": int(row["images"]),
            "estimates": [
                tuple(numeric(row, f"{name}{end}") for end in ("", "_low", "_high")) if row[name] else None
                for name in _PER_CLASS
            ],
        }
        for row in kept
    ]


def matrix(one: Evaluated) -> NDArray[np.int64]:
    """Return how often each class (row) was taken for each (column), (K, K)."""
    found = one.predictions
    code_of = {label: code for code, label in enumerate(found.classes)}
    actual, predicted = (
        np.array([code_of[label] for label in labels], np.int64) for labels in (found.labels, found.predicted)
    )
    return np.asarray(metrics.confusion(actual, predicted, len(found.classes)), np.int64)


def _confusion(one: Evaluated) -> list[dict[str, Any]]:
    """Return the matrix's rows; a cell's shade grows with the root of its share, so that rare confusions show."""
    counts = matrix(one)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(SHADES * np.sqrt(shares)).astype(int)
    return [
        {
            "label": label,
            "total": int(counts[i].sum()),
            "cells": [{"count": int(counts[i, j]), "shade": int(shades[i, j])} for j in range(len(counts))],
        }
        for i, label in enumerate(one.predictions.classes)
    ]


def _confusions(one: Evaluated) -> list[dict[str, Any]]:
    """Return the commonest confusions."""
    classes = one.predictions.classes
    wrong = Counter(
        pair for pair in zip(one.predictions.labels, one.predictions.predicted, strict=True) if pair[0] != pair[1]
    )
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
    return [
        {"label": a, "predicted": b, "count": count, "row": classes.index(a), "column": classes.index(b)}
        for (a, b), count in ranked
    ]


def _reliability(one: Evaluated) -> dict[str, Any] | None:
    """Return the diagram and its numbers; of a calibrated model there are two states, the one before comes first."""
    states: dict[str, list[Bin]] = {}
    for row in one.reliability:
        numbers = [numeric(row, name) for name in _BIN]
        states.setdefault(row["temperature"], []).append(Bin(*numbers))
    if not states:
        return None
    *before, (temperature, bins) = states.items()
    found = evaluation.reliable(bins, one.predictions.probabilities.max(axis=1))
    return {
        "chart": charts.reliability(found, before[0][1] if before else []),
        "temperature": float(temperature) if before else None,
        "error": estimate(one.metrics, "ece"),
        "before": estimate(one.metrics, "uncalibrated_ece") if before else None,
        "dashed": bool(before) and len(before[0][1]) > 1,  # one bin makes no line
    }


def for_script(one: Evaluated, tested: Mapping[bytes, int], code_of: Mapping[str, int]) -> dict[str, Any]:
    """Return what the page's script knows of a model: for each test image with a picture, what was said of it.

    `tested` has these images' digests and places.
    """
    found = one.predictions
    predicted, sure = [-1] * len(tested), [0] * len(tested)
    for row, digest in enumerate(map(bytes.fromhex, found.digests)):
        if digest in tested:
            predicted[tested[digest]] = code_of[found.predicted[row]]
            sure[tested[digest]] = round(1000 * confidence(one, row))
    return {"name": one.name, "predicted": predicted, "confidence": sure}
