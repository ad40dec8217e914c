"""Photos in, labels and probabilities out, by a head, whose spec says which trunk it needs, or by a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import calibration, engines, extraction, heads, images, inference, models, spec, thresholds
from pipeline.errors import ImageError, InputError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What became of one file.

    Attributes
    ----------
    path : Path
        As it was given, or as it was found in a folder that was given.
    label : str or None
        The most probable class, or the one that the head's threshold gives; None if the file could not be used.
    probabilities : dict of str to float
        One a class, calibrated, adding up to 1; empty if the file could not be used.
    error : str or None
        Why it could not be used.
    """

    path: Path
    label: str | None
    probabilities: dict[str, float]
    error: str | None


class Predictor:
    """A trained head with the trunk that it was trained on, or a model.

    Parameters
    ----------
    trained_dir : Path
        Written by `pipeline.training.train` or `pipeline.finetuning.finetune`.
    weights : str or None
        For a head, the base's weights, as in `pipeline.extraction.Settings`; their sha256 is checked against the one
        the head keeps. None: ``none`` if the head was trained on a random base, else ``imagenet``.
    engine : {"auto", "tensorflow", "openvino"}
        ``auto`` is the one that the head's spec names, if it names one.
    precision : {"float32", "bfloat16", "float16"} or None
        Of the arithmetic; None is the one the head was trained on, and float32 for a model.
    batch_size : int
        Images a batch; it changes speed and memory only.
    cache : Path or None
        The cache folder, where an engine finds what it kept to start faster.

    Attributes
    ----------
    classes : list of str
        In the order of the probabilities.
    warnings : list of str
        Where this machine differs from the one that trained, but only up to rounding.
    plan : Plan or None
        How the features of a head are made; None for a model.

    Raises
    ------
    SpecError
        The weights are not those the head was trained on.
    InputError
        Weights are named for a model, which has its own.
    """

    def __init__(
        self,
        trained_dir: Path,
        *,
        weights: str | None,
        engine: str,
        precision: engines.Precision | None,
        batch_size: int,
        cache: Path | None,
    ) -> None:
        self.batch_size = batch_size
        self._engine: engines.Engine | None = None
        used: _Head | _Model
        if models.is_model(trained_dir):
            if weights is not None:
                raise InputError(f"--weights: expected none, since {trained_dir} is a model, received {weights!r}")
            used = _Model(trained_dir, engine, precision or "float32", batch_size, cache)
        else:
            used = _Head(trained_dir, weights, engine, precision, batch_size, cache)
        self._used = used
        self.classes, self.warnings, self.plan = used.classes, used.warnings, used.plan

    def predict(self, paths: Sequence[Path], *, progress: Progress) -> Iterator[Prediction]:
        """Yield one prediction a path, in order; a file that cannot be used gets one with its error.

        Parameters
        ----------
        paths : sequence of Path
            Image files; `expand` makes them from folders.
        progress : callable
            Called with (files done, files).
        """
        size, geometry = self._used.size, self._used.geometry

        def load(place: int) -> NDArray[np.uint8]:
            return images.fit(images.read_bytes(paths[place]), size=size, geometry=geometry)

        if self._engine is None:
            self._engine = self._used.open()
        outcomes = inference.rows(
            self._engine, len(paths), load, batch_size=self.batch_size, finish=self._used.probabilities
        )
        for done, (path, outcome) in enumerate(zip(paths, outcomes, strict=True), start=1):
            if isinstance(outcome, ImageError):
                yield Prediction(path, None, {}, str(outcome))
            else:
                named = dict(zip(self.classes, outcome.tolist(), strict=True))
                (code,) = thresholds.decide(outcome[None], self.classes, self._used.threshold)
                yield Prediction(path, self.classes[code], named, None)
            progress(done, len(paths))


class _Head:
    """A head, whose features are made by the trunk that its spec names."""

    def __init__(
        self,
        head_dir: Path,
        weights: str | None,
        engine: str,
        precision: engines.Precision | None,
        batch_size: int,
        cache: Path | None,
    ) -> None:
        head, record = heads.load(head_dir)
        self._head = head
        self.classes: list[str] = record["classes"]
        self.threshold = thresholds.of_record(record, head_dir)
        self._temperature = calibration.of_record(record, head_dir)
        trained = record["spec"]
        settings = extraction.settings_of(trained, head_dir, weights=weights)
        settings = replace(settings, precision=precision or settings.precision)
        if engine == "auto" and "engine" in trained:
            engine = trained["engine"]["name"]
        self.plan = extraction.plan(settings, engine=engine)
        self.warnings = spec.require_compatible(trained, self.plan.spec)
        self.size, self.geometry = self.plan.size, settings.resize
        self._batch_size, self._cache = batch_size, cache

    def open(self) -> engines.Engine:
        return extraction.open_engine(self.plan, batch_size=self._batch_size, cache=self._cache)

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return calibration.apply(self._head.predict_proba(rows.reshape(len(rows), -1)), self._temperature)


class _Model:
    """A model, which gives probabilities itself."""

    plan = None

    def __init__(
        self, directory: Path, engine: str, precision: engines.Precision, batch_size: int, cache: Path | None
    ) -> None:
        self._model = models.read(directory)
        self.classes, self.threshold = self._model.classes, self._model.threshold
        self.warnings: list[str] = []
        self.size, self.geometry = self._model.size, self._model.spec["resize"]
        self._open = partial(
            inference.open_model, self._model, engine=engine, precision=precision, batch_size=batch_size, cache=cache
        )

    def open(self) -> engines.Engine:
        return self._open()

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return models.normalised(rows)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by the files below it, sorted, hidden ones left out; InputError if a path does not exist."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            files += [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: expected an image or a folder of images, found nothing")
    if not files:
        raise InputError(f"expected images, found none in {', '.join(map(str, paths))}")
    return files
