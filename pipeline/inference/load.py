"""What was trained, as something that runs: a head with the trunk of its spec, a model or an export; one shape.

How much is wanted of an image decides which network runs: probabilities alone come out of a whole model fastest;
features, to compare the image with others, leave its trunk; activations, to see where the evidence lies, leave it
before the pooling. Whatever runs, the probabilities are the same up to rounding.
"""

from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline import heads
from pipeline.backbones import engines
from pipeline.errors import InputError
from pipeline.export import exported_model
from pipeline.features import extract, spec
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.models import store
from pipeline.models.numpy_head import Readout
from pipeline.photos import decode

Depth = Literal["probabilities", "features", "maps"]


class Answers(NamedTuple):
    """What is known of n images.

    Attributes
    ----------
    probabilities : ndarray of shape (n, K), float64
        Calibrated; rows sum to 1.
    features : ndarray of shape (n, d), float32, or None
        If the depth is ``features`` or ``maps``.
    maps : ndarray of shape (n, h, w, C), float32, or None
        If the depth is ``maps``.
    """

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None
    maps: NDArray[np.float32] | None


class Trained(Protocol):
    """What gives answers for pixels.

    Attributes
    ----------
    classes : list of str
        In the order of the probabilities.
    threshold : dict or None
        For `thresholds.decide`.
    size : int
        Side of the square that it takes, px.
    geometry : {"squash", "crop", "pad"}
        How a rectangle becomes that square.
    warnings : list of str
        Where this machine differs from the one that trained, but only up to rounding.
    """

    classes: list[str]
    threshold: dict[str, Any] | None
    size: int
    geometry: decode.Geometry
    warnings: list[str]

    @property
    def spec(self) -> spec.Spec:
        """All that can change its features."""

    @property
    def plan(self) -> extract.Plan | None:
        """How the features of a head are made; None for a model."""

    def open(self, depth: Depth, *, prompt: bool = False) -> engines.Engine:
        """Load the network that gives as much as is wanted; `prompt` as for `engines.open_engine`."""

    def answers(self, rows: NDArray[np.float32], depth: Depth) -> Answers:
        """Make answers of what an engine of that depth gave for n images, (n, …)."""

    @property
    def readout(self) -> Readout:
        """Pooling and head; InputError for a head that is no map of the features."""


def load(
    directory: Path,
    *,
    weights: str | None,
    engine: str,
    precision: engines.Precision | None,
    batch_size: int,
    cache: Path | None,
) -> Trained:
    """Read a head, a model or an export; networks are built when they are opened.

    Parameters
    ----------
    directory : Path
        Written by `pipeline.heads.train.train`, `pipeline.models.finetuning.finetune` or `pipeline.export.export`; of
        an export also one of its files, else it is the fastest whose runtime is installed.
    weights : str or None
        For a head, the base's weights, as in `pipeline.features.extract.Settings`; their sha256 is checked against the
        one the head keeps. None: ``none`` if the head was trained on a random base, else ``imagenet``.
    engine : {"auto", "tensorflow", "openvino"}
        ``auto`` is the one that the head's spec names, if it names one.
    precision : {"float32", "bfloat16", "float16"} or None
        Of the arithmetic; None is the one the head was trained on, and float32 for a model.
    batch_size : int
        The most images of a batch; it changes speed and memory only.
    cache : Path or None
        The cache folder, where an engine finds what it kept to start faster.

    Raises
    ------
    SpecError
        The weights are not those the head was trained on.
    InputError
        Weights are named for a model, which has its own; or weights, engine or precision for an export.
    ArtefactError
        It is none of them, or damaged.
    """
    if exported_model.is_export(directory):
        return _Exported(directory, weights, engine, precision)
    if not store.is_model(directory):
        return _Head(directory, weights, engine, precision, batch_size, cache)
    if weights is not None:
        raise InputError(f"--weights: expected none, since {directory} is a model, received {weights!r}")
    return _Model(directory, engine, precision or "float32", batch_size, cache)


class _Head:
    """A head, whose features are made by the trunk that its spec names."""

    def __init__(
        self,
        directory: Path,
        weights: str | None,
        engine: str,
        precision: engines.Precision | None,
        batch_size: int,
        cache: Path | None,
    ) -> None:
        self._head, record = heads.load(directory)
        self.classes: list[str] = record["classes"]
        self.threshold = thresholds.of_record(record, directory)
        self._temperature = calibrate.of_record(record, directory)
        self.spec: spec.Spec = record["spec"]
        settings = extract.settings_of(self.spec, directory, weights=weights)
        self._settings = replace(settings, precision=precision or settings.precision)
        if engine == "auto" and "engine" in self.spec:
            engine = self.spec["engine"]["name"]
        self.plan = extract.plan(self._settings, engine=engine)
        self.warnings = spec.require_compatible(self.spec, self.plan.spec)
        self.size, self.geometry = self.plan.size, settings.resize
        self._batch_size, self._cache = batch_size, cache

    def open(self, depth: Depth, *, prompt: bool = False) -> engines.Engine:
        plan = self.plan
        if depth == "maps":
            plan = extract.plan(replace(self._settings, pooling="none"), engine=plan.engine)
        return extract.open_engine(plan, batch_size=self._batch_size, cache=self._cache, prompt=prompt)

    def answers(self, rows: NDArray[np.float32], depth: Depth) -> Answers:
        features = self.readout.features(rows) if depth == "maps" else rows.reshape(len(rows), -1)
        probabilities = calibrate.apply(self._head.predict_proba(features), self._temperature)
        return Answers(probabilities, features, rows if depth == "maps" else None)

    @cached_property
    def readout(self) -> Readout:
        return Readout(self._head.stack(), self.plan.spec["pooling"])


class _Model:
    """A model: a whole network, or its trunk and its head apart."""

    plan = None

    def __init__(
        self, directory: Path, engine: str, precision: engines.Precision, batch_size: int, cache: Path | None
    ) -> None:
        self._model = store.read(directory)
        self.classes, self.threshold = self._model.classes, self._model.threshold
        self.spec, self.size = self._model.spec, self._model.size
        self.geometry: decode.Geometry = self.spec["resize"]
        self.warnings: list[str] = []
        self._engine, self._precision, self._batch_size, self._cache = engine, precision, batch_size, cache

    def open(self, depth: Depth, *, prompt: bool = False) -> engines.Engine:
        build, name = self._model.network, self._model.identity
        if depth != "probabilities":
            build = partial(self._model.trunk, pooling="none" if depth == "maps" else None)
            name = f"{name}-{depth}"
        return engines.open_engine(
            engines.choose(self._engine),
            build,
            batch_size=self._batch_size,
            precision=self._precision,
            kept=self._cache and self._cache / "graphs" / name,
            prompt=prompt,
        )

    def answers(self, rows: NDArray[np.float32], depth: Depth) -> Answers:
        if depth == "probabilities":
            return Answers(store.normalised(rows), None, None)
        readout = self.readout
        features = readout.features(rows) if depth == "maps" else rows.reshape(len(rows), -1)
        probabilities = calibrate.apply(readout.probabilities(features), self._model.temperature)
        return Answers(probabilities, features, rows if depth == "maps" else None)

    @cached_property
    def readout(self) -> Readout:
        return Readout(self._model.stack(), self.spec["pooling"])


class _Exported:
    """A file of an export, which gives probabilities by its own runtime and nothing else."""

    plan = None

    def __init__(self, path: Path, weights: str | None, engine: str, precision: engines.Precision | None) -> None:
        self._path = path
        for option, given in (("--weights", weights), ("--engine", engine), ("--precision", precision)):
            if given not in (None, "auto"):
                raise InputError(f"{option}: expected none, since {path} is an export, received {given!r}")
        self._found, self._row = exported_model.chosen(path)
        self.classes, self.threshold = self._found.classes, self._found.threshold
        self.size, self.geometry = self._found.size, self._found.geometry
        self.warnings: list[str] = []

    def open(self, depth: Depth, *, prompt: bool = False) -> engines.Engine:
        if depth != "probabilities":
            raise self._lacking()
        return exported_model.ExportedEngine(self._found, self._row)

    def answers(self, rows: NDArray[np.float32], depth: Depth) -> Answers:
        return Answers(store.normalised(rows), None, None)

    @property
    def spec(self) -> spec.Spec:
        raise self._lacking()

    @property
    def readout(self) -> Readout:
        raise self._lacking()

    def _lacking(self) -> InputError:
        return InputError(
            f"{self._path}: expected a head or a model to tell more than probabilities, received an export"
        )
