"""Open a head, a model or an export: whatever gives probabilities for photos."""

from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import InputError
from pipeline.export import bundle, exported_model
from pipeline.features.spec import Spec
from pipeline.inference import imagenet
from pipeline.models import classifier, store
from pipeline.models.classifier import Classifier
from pipeline.models.outputs import Depth, Outputs
from pipeline.models.settings import Runtime
from pipeline.photos import decode


def load(path: Path, runtime: Runtime) -> Classifier:
    """Read a head, a model, an export or, by the word ``imagenet``, the packaged base with its own classifier.

    Networks are built when they are opened.

    Parameters
    ----------
    path : Path
        As for `pipeline.models.classifier.load`, or an export: one of its files, or its folder for the fastest of them
        whose runtime is installed.
    runtime : Runtime

    Raises
    ------
    InputError
        Weights are named for a model, which has its own; or weights, engine or precision for an export.
    ArtefactError
        It is none of them, or damaged.
    """
    if imagenet.is_meant(path):
        return imagenet.ImageNetClassifier(runtime)
    if path.suffix in exported_model.SUFFIXES and path.is_file() and not exported_model.is_export(path):
        raise InputError(
            f"{path}: expected {bundle.DOCUMENT} beside it, which tells its classes and how it sees a photo, received "
            "the file alone: copy the folder of the export as a whole"
        )
    return ExportClassifier(path, runtime) if exported_model.is_export(path) else classifier.load(path, runtime)


class ExportClassifier(Classifier):
    """A file of an export, which gives probabilities by its own runtime and nothing else."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.path = path
        for option in ("weights", "engine", "precision"):
            if (given := getattr(runtime, option)) not in (None, "auto"):
                raise InputError.of(option, f"none, since {path} is an export", repr(given))
        self._exported, self._format = exported_model.chosen(path)
        self.classes, self.threshold = self._exported.classes, self._exported.threshold
        decode.of_spec(self.square)  # a decoder that is missing here is told of now

    @property
    def square(self) -> Spec:
        """The square that it takes and how a photo becomes it."""
        return self._exported.square

    @property
    def spec(self) -> NoReturn:
        """Of features there is nothing to say."""
        self._refuse()

    @property
    def readout(self) -> NoReturn:
        """There is none."""
        self._refuse()

    def open(self, depth: Depth, *, prompt: bool = False) -> Engine:
        """Load the file by its runtime."""
        return (
            exported_model.ExportedEngine(self._exported, self._format) if depth == "probabilities" else self._refuse()
        )

    def outputs(self, rows: NDArray[np.float32], depth: Depth) -> Outputs:
        """Take the file's probabilities."""
        return Outputs(store.normalised(rows), None, None)

    def predict_from_features(self, features: NDArray[np.float32], *, calibrated: bool = True) -> NoReturn:
        """Refuse: it takes photos."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(f"{self.path}: expected a head or a model to tell more than probabilities, received an export")
