"""Write what an evaluation found, as tables and as pictures; `evaluate` lists the files."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError
from pipeline.evaluation import predictions_file
from pipeline.models import training_history
from pipeline.photos import decode
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.plots import evaluation, image_grid, training_curves
from pipeline.stats import calibration_error, metrics
from pipeline.storage.atomic import publish_csv
from pipeline.storage.json_files import publish_digests
from pipeline.wording import interval

CLASSES, CONFUSION, RELIABILITY = "classes.csv", "confusion.csv", "reliability.csv"
CURVES: Final = "learning_curves.csv"
PLOTS: Final = "plots"

MISTAKES_DRAWN: Final = 24
CLASSES_DRAWN: Final = 40
THUMBNAIL_SIDE: Final = 240  # px; a picture of the grid is this wide
DECIMALS: Final = 6  # of a metric: more would differ between machines, which sum in another order


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation found.

    Attributes
    ----------
    metrics : dict
        As `metrics.measure` returns it, not rounded; and ``ece``, the estimate of the expected calibration error.
    temperature : float
        Of the calibration; 1 if there was none.
    uncalibrated : dict
        The estimates ``log_loss`` and ``ece`` of the same probabilities before calibration.
    mistakes : int
        Test images whose predicted class is not theirs.
    forwarded, reused : int
        Views of test images that ran through a base, and that were rows, in the cache or in the features.
    warnings : list of str
        What the user should know, one line each.
    """

    metrics: dict[str, Any]
    temperature: float
    uncalibrated: dict[str, Any]
    mistakes: int
    forwarded: int
    reused: int
    warnings: list[str]


@dataclass(frozen=True)
class Evaluated:
    """Test images in the order of their paths, with what the classifier says of them."""

    images: Manifest
    classes: list[str]
    actual: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    predicted: NDArray[np.int64]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each predicted class."""
        of_predicted: NDArray[np.float64] = self.probabilities[np.arange(len(self.predicted)), self.predicted]
        return of_predicted


def write(
    out_dir: Path,
    found: Evaluated,
    summary: EvaluateResult,
    *,
    history: Sequence[training_history.Row],
    images_root: Root,
) -> None:
    """Write all files of an evaluation, and their digests; `history` is as in `pipeline.models.training_history`."""
    _write_tables(out_dir, found, summary)
    _write_reliability(out_dir, found, summary)
    _draw(out_dir, found, summary.metrics, images_root)
    _write_learning_curves(out_dir, list(history))
    publish_digests(out_dir, (CLASSES, CONFUSION, RELIABILITY, CURVES))


def _write_tables(out_dir: Path, found: Evaluated, summary: EvaluateResult) -> None:
    measured = summary.metrics
    flat: dict[str, float] = {"images": measured["n"]}
    for name in (*metrics.OVERALL, "ece"):
        flat |= _flat(name, measured[name])
    flat["temperature"] = round(summary.temperature, DECIMALS)
    for name, estimate in summary.uncalibrated.items():
        flat |= _flat(f"uncalibrated_{name}", estimate)
    predictions_file.write_metrics(out_dir, flat)

    columns = [f"{name}{end}" for name in metrics.PER_CLASS for end in ("", "_low", "_high")]
    rows = []
    for label, one in measured["classes"].items():
        numbers = {key: value for name in metrics.PER_CLASS for key, value in _flat(name, one[name]).items()}
        rows.append([label, one["n"], *(numbers.get(column, "") for column in columns)])
    publish_csv(out_dir / CLASSES, ["label", "images", *columns], rows)

    digests = [row.tobytes().hex() for row in found.images.digests]
    predicted, labels = [found.classes[code] for code in found.predicted], found.images.labels
    judged = predictions_file.Predictions(
        found.images.paths, digests, labels, predicted, found.classes, found.probabilities
    )
    predictions_file.write_predictions(out_dir, judged)
    publish_csv(out_dir / CONFUSION, ["actual", "predicted"], zip(labels, predicted, strict=True))


def _flat(name: str, estimate: dict[str, Any]) -> dict[str, float]:
    """Return value and ends of an estimate as three rounded numbers; nothing if it is not defined."""
    if estimate["value"] is None:
        return {}
    ends = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    return {key: round(estimate[end], DECIMALS) for key, end in ends.items()}


def _write_reliability(out_dir: Path, found: Evaluated, summary: EvaluateResult) -> None:
    """Write and draw how often the probabilities are right; twice, if there is a temperature."""
    states = [(1.0, found.uncalibrated, summary.uncalibrated["ece"])]
    if summary.temperature != 1.0:
        states.append((summary.temperature, found.probabilities, summary.metrics["ece"]))
    panels, rows = {}, []
    for place, (temperature, probabilities, ece) in enumerate(states):
        found_bins = calibration_error.bins(found.actual, probabilities)
        numbers = [[round(number, DECIMALS) for number in astuple(one)] for one in found_bins]
        rows += [[round(temperature, DECIMALS), *one] for one in numbers]
        state = "as it is" if len(states) == 1 else ("before", f"after, temperature {temperature:.3f}")[place]
        title = f"{state}\ncalibration error {interval(ece['value'], ece['low'], ece['high'])}"
        panels[title] = evaluation.reliable(
            [evaluation.Bin(one.images, one.confidence, one.accuracy, one.low, one.high) for one in found_bins],
            probabilities.max(axis=1),
        )
    names = ["images", "least", "most", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    publish_csv(out_dir / RELIABILITY, ["temperature", *names], rows)
    title = f"{len(found.actual):,} test images, 95 % intervals"
    evaluation.reliability(panels, out_dir / PLOTS / "reliability.png", title)


def _write_learning_curves(out_dir: Path, history: list[training_history.Row]) -> None:
    known = [column for column in training_history.COLUMNS if any(column in row for row in history)]
    columns = known or training_history.COLUMNS
    publish_csv(out_dir / CURVES, columns, [[row.get(column, "") for column in columns] for row in history])
    training_curves.learning_curves(history, out_dir / PLOTS / "learning_curves.png")


def _draw(out_dir: Path, found: Evaluated, measured: dict[str, Any], images_root: Root) -> None:
    matrix = metrics.confusion(found.actual, found.predicted, len(found.classes))
    folder = out_dir / PLOTS
    evaluation.confusion_matrix(matrix, found.classes, folder / "confusion_matrix.png")
    _draw_classes(folder / "classes.png", measured)
    _draw_mistakes(folder / "mistakes.png", found, images_root)


def _draw_classes(path: Path, measured: dict[str, Any]) -> None:
    labels = list(measured["classes"])
    shown = ""
    if len(labels) > CLASSES_DRAWN:
        worst = sorted(labels, key=lambda label: _value(measured["classes"][label]["f1"]))
        labels, shown = worst[:CLASSES_DRAWN], f"; the {CLASSES_DRAWN} classes of least F1, of {len(labels)}"
    panels = {
        title: [(label, *_numbers(measured["classes"][label][name])) for label in labels]
        for title, name in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
    }
    evaluation.intervals(panels, path, f"{measured['n']:,} test images, 95 % intervals{shown}")


def _value(estimate: dict[str, Any]) -> float:
    return 2.0 if estimate["value"] is None else float(estimate["value"])  # what is undefined comes last


def _numbers(estimate: dict[str, Any]) -> tuple[float, float, float]:
    value, low, high = (np.nan if estimate[end] is None else estimate[end] for end in ("value", "low", "high"))
    return value, low, high


def _draw_mistakes(path: Path, found: Evaluated, images_root: Root) -> None:
    wrong = np.flatnonzero(found.predicted != found.actual)
    order = wrong[np.argsort(-found.confidence[wrong], kind="stable")][:MISTAKES_DRAWN]
    drawn = len(order)
    which = "The mistake" if len(wrong) == 1 else f"The {drawn} most confident of {len(wrong):,} mistakes"
    which = which if drawn < len(wrong) or drawn == 1 else f"All {drawn} mistakes"
    title = f"{which} among {len(found.actual):,} test images"
    pictures, captions = [], []
    for image in order:
        picture, remark = _picture(images_root, found.images, int(image))
        pictures.append(picture)
        predicted, confidence = found.classes[found.predicted[image]], found.confidence[image]
        captions.append(
            "\n".join(
                [
                    f"is: {found.images.labels[image]}",
                    f"taken for: {predicted}",
                    f"confidence {confidence:.3f}",
                    found.images.paths[image],
                    *remark,
                ]
            )
        )
    image_grid.mistakes_grid(pictures, captions, path, title)


def _picture(images_root: Root, test: Manifest, image: int) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Return the image as it is now, or None if it cannot be read, and a remark if it is not what was judged."""
    try:
        data = decode.read_bytes(images_root / test.paths[image])
        changed = decode.digest(data) != test.digests[image].tobytes()
        return decode.preview(data, side=THUMBNAIL_SIDE), ["changed since it was judged"] if changed else []
    except ImageError as error:
        return None, [str(error)]
