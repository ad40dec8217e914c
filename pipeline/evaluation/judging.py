"""What can be judged on a manifest: a head, by cached features, and a model, by the images themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline import heads
from pipeline.errors import ImageError, InputError
from pipeline.features import spec
from pipeline.features.features_file import Features
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.models import forward, store
from pipeline.photos import augmentation, decode
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root


@dataclass(frozen=True)
class Running:
    """How a model is run over the test images, none of which changes a result by more than rounding.

    Attributes
    ----------
    engine : {"auto", "tensorflow", "openvino"}
    batch_size : int
        Images a batch.
    cache : Path or None
        Where an engine finds what it kept to start faster.
    progress : callable
        Called with (rows done, rows).
    """

    engine: str
    batch_size: int
    cache: Path | None
    progress: Callable[[int, int], None]


class Said(NamedTuple):
    """What was said of images.

    Attributes
    ----------
    probabilities : ndarray of float64, shape (n, K)
        Calibrated, if head or model are.
    uncalibrated : ndarray of float64, shape (n, K)
        At a temperature of 1; the same numbers if there is no other.
    warnings : list of str
    """

    probabilities: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    warnings: list[str]


class Judged(Protocol):
    """What gives probabilities for the images of a manifest.

    Attributes
    ----------
    classes : list of str
        In the order of the probabilities.
    history : list of dict
        A row an epoch of training; empty if there were none.
    threshold : dict or None
        For `thresholds.decide`.
    temperature : float
        Of the calibration; 1 if there was none.
    """

    classes: list[str]
    history: list[dict[str, float]]
    threshold: dict[str, Any] | None
    temperature: float

    def predict(self, table: Manifest, root: Root, features_path: Path, *, tta: bool) -> Said:
        """Return the probabilities of the images of `table`, in its order.

        Parameters
        ----------
        table : Manifest
        root : Path or Address
            The image root.
        features_path : Path
            Rows for a head; of a model, only which views there are, if `tta` asks for them.
        tta : bool
            Whether to take the mean over all views of an image, each calibrated.
        """


def judged(directory: Path, running: Running | None) -> Judged:
    """Open a head or a model.

    Parameters
    ----------
    directory : Path
        As `pipeline.heads.save` or `pipeline.models.store.save` wrote it.
    running : Running or None
        How a model is run; a head needs none.

    Raises
    ------
    ArtefactError
        It is neither, or damaged.
    """
    if not store.is_model(directory):
        return _Head(directory)
    if running is None:
        raise InputError(f"{directory}: expected a head, since nothing says how to run a model, received a model")
    return _Model(directory, running)


class _Head:
    """A head, judged by cached features."""

    def __init__(self, directory: Path) -> None:
        self._head, record = heads.load(directory)
        self._spec: spec.Spec = record["spec"]
        self.classes: list[str] = record["classes"]
        self.history = self._head.history_
        self.threshold = thresholds.of_record(record, directory)
        self.temperature = calibrate.of_record(record, directory)

    def predict(self, table: Manifest, root: Root, features_path: Path, *, tta: bool) -> Said:
        with Features(features_path) as features:
            warnings = spec.require_compatible(self._spec, features.spec)
            _check_tta(tta, features)
            rows = features.gather_views(table.digests)
        each = np.stack([self._head.predict_proba(rows[:, view]) for view in range(rows.shape[1] if tta else 1)])
        return Said(calibrate.apply(each, self.temperature).mean(axis=0), each.mean(axis=0), warnings)


class _Model:
    """A model, judged by the images."""

    def __init__(self, directory: Path, running: Running) -> None:
        self._model, self._running = store.read(directory), running
        self.classes, self.history = self._model.classes, self._model.history
        self.threshold, self.temperature = self._model.threshold, self._model.temperature

    def predict(self, table: Manifest, root: Root, features_path: Path, *, tta: bool) -> Said:
        count, policy = 1, None
        if tta:
            with Features(features_path) as features:
                _check_tta(tta, features)
                count, policy = features.views["count"], augmentation.Policy(**features.views["policy"])  # type: ignore[index]

        def load(place: int) -> NDArray[np.uint8]:
            image, view = divmod(place, count)
            data = decode.read_bytes(root / table.paths[image])
            digest = table.digests[image].tobytes()
            if decode.digest(data) != digest:
                raise ImageError("it changed since `headstart prepare`; run that again")
            pixels = decode.fit(data, size=self._model.size, geometry=self._model.spec["resize"])
            return pixels if policy is None else augmentation.apply(pixels, digest=digest, view=view, policy=policy)

        engine = forward.open_model(
            self._model,
            engine=self._running.engine,
            precision="float32",
            batch_size=self._running.batch_size,
            cache=self._running.cache,
        )
        total = len(table) * count
        rows = forward.rows(engine, total, load, batch_size=self._running.batch_size, finish=store.normalised)
        found = np.empty((total, len(self.classes)))
        for place, row in enumerate(rows):
            if isinstance(row, ImageError):
                raise InputError(f"{root / table.paths[place // count]}: expected an image: {row}")
            found[place] = row
            self._running.progress(place + 1, total)
        each = found.reshape(len(table), count, -1)
        return Said(each.mean(axis=1), calibrate.apply(each, 1 / self.temperature).mean(axis=1), [])


def _check_tta(tta: bool, features: Features) -> None:
    if tta and not features.views:
        raise InputError(f"--tta: expected features of several views, received {features.path} with one")
