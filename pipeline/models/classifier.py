"""Open a head or a model: from photos, or from features, to probabilities.

How much is wanted of a photo decides which network runs: probabilities alone come out of a whole model fastest;
features, to compare the photo with others, leave its trunk; activations, to see where the evidence lies, leave it
before the pooling. Whatever runs, the probabilities are the same up to rounding.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine, choose, open_engine
from pipeline.errors import InputError
from pipeline.features import resolve, spec
from pipeline.heads import store as heads
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.models import store, training_history
from pipeline.models.numpy_head import Readout
from pipeline.models.outputs import Depth, Outputs, Probabilities
from pipeline.models.settings import Runtime
from pipeline.photos import decode
from pipeline.photos.batches import Photos, batches
from pipeline.photos.settings import Geometry
from pipeline.storage.digests import of_file
from pipeline.types import Progress


class Classifier(ABC):
    """What gives probabilities for photos: a head, a model or an export. Its network is built when it is opened.

    Attributes
    ----------
    classes : list of str
        In the order of the probabilities.
    threshold : dict or None
        For `thresholds.decide`.
    temperature : float
        Of the calibration; 1 if there was none.
    history : list of dict
        As in `training_history`; empty if there were no epochs.
    plan : Plan or None
        How the features of a head are made, checked against the weights that are here; None for a model.
    warnings : list of str
        Where this machine differs from the one that trained, but only up to rounding.
    path, identity : Path, str
        Where it lies; sha256 of its record, empty for an export.
    head, started_from : str or None
        sha256 of the ``head.json`` of which it is, joined or not; else of that which training began with.
    """

    path: Path
    identity: str = ""
    head: str | None = None
    started_from: str | None = None
    classes: list[str]
    threshold: dict[str, Any] | None
    temperature: float = 1.0
    history: Sequence[training_history.Row] = ()
    plan: resolve.Plan | None = None
    warnings: Sequence[str] = ()

    def __init__(self, runtime: Runtime | None) -> None:
        self._runtime = runtime

    @property
    @abstractmethod
    def spec(self) -> spec.Spec:
        """All that can change its features."""

    @property
    def square(self) -> Mapping[str, Any]:
        """The square that it takes and how a photo becomes it: ``size``, ``resize`` and ``decoder``, as in a spec."""
        return self.spec

    @property
    def size(self) -> int:
        """Side of the square that it takes, px."""
        return int(self.square["size"])

    @property
    def geometry(self) -> Geometry:
        """How a rectangle becomes that square."""
        return cast(Geometry, self.square["resize"])

    @property
    @abstractmethod
    def readout(self) -> Readout:
        """Pooling and head; InputError for a head that is no map of the features."""

    @property
    def runtime(self) -> Runtime:
        """How its network is run; InputError if nobody said."""
        if self._runtime is None:
            raise InputError("expected to be told how to run a network, received nothing")
        return self._runtime

    @abstractmethod
    def open(self, depth: Depth, *, prompt: bool = False) -> Engine:
        """Load the network that gives as much as is wanted; `prompt` as for `engine.open_engine`."""

    def outputs(self, rows: NDArray[np.float32], depth: Depth) -> Outputs:
        """Make outputs of what an engine of that depth gave for n images, (n, …): pool maps, and apply the head."""
        features = self.readout.features(rows) if depth == "maps" else rows.reshape(len(rows), -1)
        return Outputs(self.predict_from_features(features), features, rows if depth == "maps" else None)

    @abstractmethod
    def predict_from_features(self, features: NDArray[np.float32], *, calibrated: bool = True) -> Probabilities:
        """Return probabilities (n, K) for features (n, d) as its own trunk gives them."""

    def predict_proba(self, photos: Photos) -> Probabilities:
        """Return calibrated probabilities, (n, K).

        InputError names a photo that cannot be read, or is not what it was.
        """
        return self.predict_views(photos, 1, lambda done, total: None)[:, 0]

    def predict_views(self, photos: Photos, views: int, progress: Progress) -> Probabilities:
        """Return calibrated probabilities of so many views of each photo, (n, views, K), the photo itself first.

        `progress` is called with (rows done, rows). Errors are as for `predict_proba`.
        """
        places: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque()
        found, done = np.empty((len(photos), views, len(self.classes))), 0

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for batch in batches(
                photos, self.fit, batch_size=self.runtime.batch_size, failed=photos.refuse, views=lambda _: range(views)
            ):
                places.append((batch.places, batch.views))
                yield batch.pixels

        for rows in self.open("probabilities").run(pixels()):
            found[places.popleft()] = self.outputs(rows, "probabilities").probabilities
            done += len(rows)
            progress(done, len(photos) * views)
        return found

    def fit(self, data: bytes, *, max_pixels: int = decode.MAX_PIXELS) -> NDArray[np.uint8]:
        """Make the square that it takes of a file's bytes; ImageError with the reason if that cannot be done."""
        return decode.of_spec(self.square)(data, max_pixels=max_pixels)


def load(path: Path, runtime: Runtime | None) -> Classifier:
    """Read a head or a model.

    Parameters
    ----------
    path : Path
        Written by `pipeline.heads.train.train` or `pipeline.models.finetuning.finetune`.
    runtime : Runtime or None
        A head that is only to predict from features needs none.

    Raises
    ------
    InputError
        Weights are named for a model, which has its own; or nothing says how to run it.
    ArtefactError
        It is neither, or damaged.
    """
    if not store.is_model(path):
        heads.require_head(path)
        return HeadClassifier(path, runtime)
    if runtime is None:
        raise InputError(f"{path}: expected a head, since nothing says how to run a model, received a model")
    if runtime.weights is not None:
        raise InputError.of("weights", f"none, since {path} is a model", repr(runtime.weights))
    return ModelClassifier(path, runtime)


class HeadClassifier(Classifier):
    """A head, whose features are made by the trunk that its spec names.

    Raises
    ------
    SpecError
        When its plan, warnings, readout or network are asked for: the weights are not those it was trained on.
    """

    def __init__(self, directory: Path, runtime: Runtime | None) -> None:
        super().__init__(runtime)
        self.path = directory
        self._head, record = heads.load(directory)
        self._spec: spec.Spec = record["spec"]
        self.identity = self.head = of_file(directory / heads.HEAD_FILE)
        if runtime:
            resolve.SPEC.require(self._spec, f"{directory}: the spec of its features")
        self.classes = record["classes"]
        self.history = training_history.of_head(self._head, training_history.views_of(record))
        self.threshold = thresholds.of_record(record, directory)
        self.temperature = calibrate.of_record(record, directory)

    @property
    def spec(self) -> spec.Spec:
        """All that can change its features."""
        return self._spec

    @property
    def plan(self) -> resolve.Plan:  # type: ignore[override]
        """How its features are made here."""
        return self._planned[0]

    @property
    def warnings(self) -> Sequence[str]:  # type: ignore[override]
        """Where this machine differs from the one that trained, but only up to rounding."""
        return self._planned[1]

    @cached_property
    def _planned(self) -> tuple[resolve.Plan, list[str]]:
        run, engine = self.runtime, self.runtime.engine
        if engine == "auto" and self.spec.get("engine"):
            engine = self.spec["engine"]["name"]
        return resolve.plan_again(self.spec, self.path, resolve.Again(run.weights, engine, run.precision, run.cache))

    @cached_property
    def readout(self) -> Readout:
        """Pooling and head."""
        return Readout(self._head.stack(), self.plan.spec["pooling"])

    def open(self, depth: Depth, *, prompt: bool = False) -> Engine:
        """Load its trunk, up to the pooling for ``maps``."""
        plan = self.plan
        if depth == "maps":
            plan = replace(plan, spec={**plan.spec, "pooling": "none"})
        return resolve.open_engine(plan, batch_size=self.runtime.batch_size, cache=self.runtime.cache, prompt=prompt)

    def predict_from_features(self, features: NDArray[np.float32], *, calibrated: bool = True) -> Probabilities:
        """Return probabilities (n, K) for features (n, d)."""
        return calibrate.apply(self._head.predict_proba(features), self.temperature if calibrated else 1.0)


class ModelClassifier(Classifier):
    """A model: a whole network, or its trunk and its head apart; `cut` is `Model.trained_above`."""

    def __init__(self, directory: Path, runtime: Runtime) -> None:
        super().__init__(runtime)
        model = self._model = store.read(directory)
        decode.of_spec(model.spec)  # a decoder that is missing here is told of now
        self.path, self.cut, self.identity = directory, model.trained_above, model.identity
        self.head, self.started_from = model.joined_from, model.started_from
        self.classes, self.threshold, self.temperature = model.classes, model.threshold, model.temperature
        self.history = training_history.of_model(model.document["made"], model.history)

    @property
    def spec(self) -> spec.Spec:
        """All that can change its features."""
        return self._model.spec

    @cached_property
    def readout(self) -> Readout:
        """Pooling and head."""
        return Readout(self._model.stack(), self.spec["pooling"])

    def open(self, depth: Depth, *, prompt: bool = False) -> Engine:
        """Load the whole network for probabilities, or its tail, else its trunk."""
        network = partial(self._model.network, above=self.cut if depth == "tail" else None)
        trunk = partial(self._model.trunk, pooling="none" if depth == "maps" else None)
        name = self.identity if depth == "probabilities" else f"{self.identity}-{depth}"
        engine = choose(self.runtime.engine)
        return open_engine(
            engine,
            partial(trunk if depth in ("features", "maps") else network, listed=engine == "openvino"),
            batch_size=self.runtime.batch_size,
            precision=self.runtime.precision or "float32",
            kept=self.runtime.cache and self.runtime.cache / resolve.GRAPHS / name,
            prompt=prompt,
        )

    def outputs(self, rows: NDArray[np.float32], depth: Depth) -> Outputs:
        """Take the network's probabilities, or pool and apply the head."""
        if depth in ("probabilities", "tail"):
            return Outputs(store.normalised(rows), None, None)
        return super().outputs(rows, depth)

    def predict_from_features(self, features: NDArray[np.float32], *, calibrated: bool = True) -> Probabilities:
        """Return probabilities (n, K) for features (n, d) as the model's own trunk gives them."""
        return calibrate.apply(self.readout.probabilities(features), self.temperature if calibrated else 1.0)
