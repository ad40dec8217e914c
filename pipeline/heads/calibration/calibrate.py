"""Probabilities that hold: one temperature, the most likely one on the validation split, or out of fold.

A head that fits its training rows well is surer of itself than it is right. Dividing its logits by one number, the
temperature, mends most of that and changes no ranking of the classes: Guo et al., "On calibration of modern neural
networks" (2017), section 4.2. It is kept with the head as ``calibration`` in its record, and with the model that the
head is joined into, whose network divides its logits by it. Whatever says a probability says the calibrated one.

The rows it is fitted on are those that a search or early stopping chose on, if there was one: a single number hardly
adapts to them, but those choices did, so that a head may still be a little surer than it should on new images.
`evaluate` measures on the test split what is left.

With several views of an image, the temperature is applied to each of them, before their mean is taken: it was fitted on
single images, and a model, which sees one at a time, can do no other. The mean of views is less sure than each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from pipeline.errors import ArtefactError
from pipeline.heads.calibration.temperature import LARGEST, fit_temperature
from pipeline.stats import calibration_error
from pipeline.stats.score_intervals import log_losses
from pipeline.types import Codes, Floats

Method = Literal["temperature"]

RESAMPLES: Final = 2000  # of the bootstrap behind the intervals that a record keeps
_SMALLEST: Final = float(np.finfo(np.float64).tiny)  # a probability of 0 counts as this


def fit(probabilities: Floats, y: Codes) -> float:
    """Return the temperature under which the labels are most likely, with a prior on its logarithm.

    `temperature.fit_temperature` says how. Labels that are taken for less than certain, with no prior, tax every row,
    and made heads worse that had been right. Over eight heads on photos and digits and 20 to 180 images, the
    temperature changed the log loss on others by a factor of 0.72 in the mean, and by 1.04 at worst; the labels less
    certain by 0.76, and by 2.2 at worst. On one division of the photos ridge and centroid heads, which were right
    already, became worse by a factor of up to 1.1 (docs/measurements.md); `benchmarks/calibration.py` compares priors.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Of images that had no part in the fit of what gives them.
    y : ndarray of shape (n,)
        Codes of their labels; n is at least 1.

    Returns
    -------
    float
        From 1 / `LARGEST` to `LARGEST`; above 1 where the probabilities were too sure.
    """
    logits = _logarithms(probabilities)
    if not np.ptp(logits, axis=1).any():
        return 1.0  # nothing is said of any image: no temperature changes that
    return fit_temperature(logits, y)


def apply(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (…, K) at a temperature, softmax(ln p / T), of the same shape.

    Rows add up to 1; the temperature is above 0. At 1 the very numbers come back; applying T and then 1 / T does, too,
    up to rounding.
    """
    if temperature == 1.0:
        return probabilities
    logits = _logarithms(probabilities) / temperature
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def of_record(record: Mapping[str, Any], directory: Path) -> float:
    """Return the temperature in a record of a head or a model, 1 without calibration; ArtefactError if damaged."""
    calibration = record.get("calibration")
    if calibration is None:
        return 1.0
    value = calibration.get("temperature") if isinstance(calibration, dict) else None
    if not isinstance(value, float) or not 1 / LARGEST <= value <= LARGEST:  # NaN is neither
        raise ArtefactError(
            f"{directory}: expected a calibration with a temperature from {1 / LARGEST:g} to {LARGEST:g}, received "
            f"{str(calibration)[:200]}; make it again"
        )
    return value


def log_loss(probabilities: Floats, y: Codes) -> float:
    """Return the mean of -ln(probability of the label), in nats."""
    return float(log_losses(y, probabilities).mean())


def describe(before: Floats, y: Codes, temperature: float) -> dict[str, Any]:
    """Return what a record keeps of a calibration, as JSON.

    It is ``method``, ``temperature``, ``rows``, and ``before`` and ``after`` with ``log_loss`` and ``ece`` (as
    `calibration_error.calibration_error` returns it) on those rows, (n, K) as given to `fit`, which chose the
    temperature.
    """
    return {
        "method": "temperature",
        "temperature": temperature,
        "rows": len(y),
        "before": _measured(before, y),
        "after": _measured(apply(before, temperature), y),
    }


def _measured(probabilities: Floats, y: Codes) -> dict[str, Any]:
    ece = calibration_error.calibration_error(y, probabilities, seed=0, resamples=RESAMPLES)
    return {"log_loss": log_loss(probabilities, y), "ece": ece}


def _logarithms(probabilities: Floats) -> Floats:
    logarithms: Floats = np.log(np.maximum(probabilities, _SMALLEST))
    return logarithms
