"""Photos in, labels and probabilities out, by a head, whose spec says which trunk it needs, or by a model.

Besides, of each photo: whether to abstain, the training photos it is most like, how familiar it is, and where the
evidence for its label lies.
"""

import errno
import os
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import ImageError, InputError
from pipeline.heads.calibration import thresholds
from pipeline.inference import class_activation
from pipeline.inference.load import load
from pipeline.inference.out_of_distribution import Familiarity, Neighbour, TrainingPhotos
from pipeline.inference.prediction import Prediction
from pipeline.inference.settings import PredictSettings
from pipeline.models import forward
from pipeline.models.classifier import Classifier
from pipeline.models.outputs import Depth
from pipeline.models.settings import Runtime
from pipeline.photos import decode
from pipeline.photos.batches import Photos
from pipeline.photos.folder_tree import Tree
from pipeline.types import Progress

SEARCH_BYTES: Final = 2**25  # of features that are held for one search through training features on disk
ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:/")  # a path has lost one of the two slashes
LONGEST_STEM: Final = 80  # bytes of a photo's name in that of its heat map
REFUSED_NAMES: Final = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


class Predictor:
    """A trained head with the trunk that it was trained on, or a model.

    Parameters
    ----------
    trained_dir : Path
    runtime : Runtime
    asked : PredictSettings, optional
        What is told besides labels and probabilities; by itself, nothing.

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
        The weights are not those the head was trained on; or the features that photos are compared with are not.
    InputError
        Weights are named for a model, which has its own; or a head that is no map of the features is to explain.
    """

    def __init__(self, trained_dir: Path, runtime: Runtime, asked: PredictSettings | None = None) -> None:
        self.batch_size, self.asked = runtime.batch_size, asked or PredictSettings()
        compared = self.asked.nearest or self.asked.familiarity
        self._depth: Depth = "maps" if self.asked.explain else "features" if compared else "probabilities"
        self._engine: Engine | None = None
        self._used = load(trained_dir, runtime)
        self.classes, self.plan = self._used.classes, self._used.plan
        self.warnings = list(self._used.warnings)
        if self.asked.explain:
            _ = self._used.readout  # refused now rather than after the network was loaded
        self._training: TrainingPhotos | None = None
        if compared:
            self._training = _training_photos(self.asked, self._used)
            self.warnings += [line for line in self._training.warnings if line not in self.warnings]

    def predict(self, paths: Sequence[Path], *, progress: Progress) -> Iterator[Prediction]:
        """Yield one prediction a path, in order; a file that cannot be used gets one with its error.

        Memory does not grow with the number of paths; `expand` makes them from folders. `progress` is called with
        (files done, files).
        """
        if self._engine is None:
            self._engine = self._used.open(self._depth, prompt=self.batch_size == 1)
            if self.asked.explain:
                class_activation.require_places(self._engine.row_shape)
        photos = _Noted(Path(), [str(path) for path in paths])
        outcomes = forward.rows(self._engine, photos, self._used.fit, batch_size=self.batch_size, finish=self._finished)
        found = self._drawn(self._compared(zip(paths, outcomes, strict=True)), photos)
        for done, prediction in enumerate(found, start=1):
            yield prediction
            progress(done, len(paths))

    def _finished(self, rows: NDArray[np.float32]) -> Iterator["_Seen"]:
        """Make of a batch's rows what is known of each image so far."""
        outputs = self._used.outputs(rows, self._depth)
        codes = thresholds.decide(outputs.probabilities, self.classes, self._used.threshold)
        heat: Sequence[class_activation.Heat | None] = [None] * len(rows)
        if outputs.maps is not None:
            heat = list(class_activation.heat(self._used.readout, outputs.maps, codes))
        features = [None] * len(rows) if self._training is None else outputs.features
        return map(_Seen, outputs.probabilities, codes.tolist(), features, heat)  # type: ignore[arg-type]

    def _compared(self, outcomes: Iterable[tuple[Path, "_Seen | ImageError"]]) -> Iterator["_Made"]:
        """Make predictions; with training photos in memory as they come, else many for one pass over the file."""
        together = 1
        if self._training is not None:
            together = self.batch_size
            if not self._training.in_memory:
                together = max(together, SEARCH_BYTES // (4 * self._training.width))
        stream = iter(outcomes)
        while group := list(islice(stream, together)):
            seen = [one for _, one in group if not isinstance(one, ImageError)]
            extras = iter(self._likeness(seen))
            for path, one in group:
                if isinstance(one, ImageError):
                    yield _Made(Prediction(path, None, {}, str(one)), None)
                else:
                    nearest, familiarity = next(extras)
                    yield _Made(
                        replace(self._prediction(path, one), nearest=nearest, familiarity=familiarity), one.heat
                    )

    def _prediction(self, path: Path, seen: "_Seen") -> Prediction:
        named = dict(zip(self.classes, seen.probabilities.tolist(), strict=True))
        label = self.classes[seen.code]
        least = self.asked.min_confidence
        abstained = least is not None and named[label] < least
        return Prediction(path, None if abstained else label, named, None, abstained)

    def _likeness(self, seen: Sequence["_Seen"]) -> list[tuple[tuple[Neighbour, ...], Familiarity | None]]:
        """Return the nearest training photos of each image, and how familiar it is."""
        training, asked = self._training, self.asked
        if training is None or not seen:
            return [((), None)] * len(seen)
        rows = np.stack([one.features for one in seen if one.features is not None])
        k = training.rank(asked.neighbours) if asked.familiarity else 0
        found = training.nearest(rows, max(asked.nearest, k))
        named = training.named(found, asked.nearest)
        familiar: Sequence[Familiarity | None] = training.familiarity(found, k) if k else [None] * len(seen)
        return list(zip(named, familiar, strict=True))

    def _drawn(self, made: Iterable["_Made"], photos: "_Noted") -> Iterator[Prediction]:
        """Draw heat maps, in threads, a few photos ahead of whoever takes the predictions."""
        folder = self.asked.explain
        if folder is None:
            yield from (prediction for prediction, _ in made)
            return
        workers = joblib.cpu_count()
        waiting: deque[tuple[Prediction, Future[None] | None]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for number, (prediction, heat) in enumerate(made, start=1):
                drawing, digest = None, photos.noted.pop(number - 1, b"")
                if heat is not None:
                    stem = os.fsencode(prediction.path.stem)[:LONGEST_STEM].decode("utf-8", "ignore")
                    path = folder / f"{number:0{len(str(len(photos)))}}-{stem}.png"
                    prediction = replace(prediction, heat_map=path)
                    drawing = pool.submit(
                        class_activation.draw, prediction.path, digest, heat, path, geometry=self._used.geometry
                    )
                waiting.append((prediction, drawing))
                if len(waiting) > 2 * workers:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Noted(Photos):
    """Photos of which the digests are noted as they are read."""

    noted: dict[int, bytes] = field(default_factory=dict)

    def read(self, place: int) -> bytes:
        data = super().read(place)
        self.noted[place] = decode.digest(data)
        return data


class _Seen(NamedTuple):
    """What the network made of one image: probabilities (K,), the class it is given, features (d,), heat (h, w)."""

    probabilities: NDArray[np.float64]
    code: int
    features: NDArray[np.float32] | None
    heat: class_activation.Heat | None


class _Made(NamedTuple):
    """A prediction, and the heat that is yet to be drawn."""

    prediction: Prediction
    heat: class_activation.Heat | None


def _done(prediction: Prediction, drawing: Future[None] | None) -> Prediction:
    try:
        if drawing is not None:
            drawing.result()
    except ImageError as error:  # the file has changed since it was predicted
        return replace(prediction, heat_map=None, error=f"no heat map: {error}")
    except OSError as error:
        if error.errno not in REFUSED_NAMES:
            raise
        return replace(prediction, heat_map=None, error=f"no heat map: {prediction.heat_map}: {error.strerror}")
    return prediction


def _training_photos(asked: PredictSettings, used: Classifier) -> TrainingPhotos:
    if asked.features is None or asked.manifest is None:
        missing = "features" if asked.features is None else "manifest"
        raise InputError.of(missing, "a file, since photos are to be compared with training photos", None)
    return TrainingPhotos(asked.features, asked.manifest, used.spec, head=used.path)


@dataclass(frozen=True)
class Files:
    """Files to predict, and those that cannot be opened, each with the reason."""

    paths: list[Path]
    refused: list[Prediction]

    def __len__(self) -> int:
        return len(self.paths) + len(self.refused)

    def predictions(self, predictor: Predictor, *, progress: Progress) -> Iterator[Prediction]:
        """Yield a prediction a file: those that cannot be opened come first."""
        yield from self.refused
        yield from predictor.predict(self.paths, progress=progress)


def expand(paths: Sequence[Path], *, but: Collection[Path] = ()) -> Files:
    """Replace each folder by the files below it, found and left out by the rules of `prepare`, and sorted.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    but : collection of Path
        Files, and folders, that are left out where they lie in a folder: what this run writes.

    Raises
    ------
    InputError
        A path does not exist, or there are no files.
    StorageError
        A folder cannot be listed.
    """
    files: list[Path] = []
    refused: list[Prediction] = []
    own = {os.path.abspath(path) for path in but}  # noqa: PTH100 -- without following links
    for path in paths:
        if path.is_dir():
            tree = Tree(path)
            inside = sorted(path / name for name in tree.files(tree.top()))
            files += [file for file in inside if own.isdisjoint(_itself_and_above(file))] if own else inside
            refused += [Prediction(path / name, None, {}, reason) for name, reason in sorted(tree.rejected)]
        elif path.exists():
            files.append(path)
        elif ADDRESS.match(str(path)):
            raise InputError(
                f"{path}: expected a file or a folder of this machine, received an address: fetch it first"
            )
        else:
            raise InputError(f"{path}: expected an image or a folder of images, found nothing")
    if not files and not refused:
        raise InputError(f"expected images, found none in {', '.join(map(str, paths))}")
    return Files(files, refused)


def _itself_and_above(file: Path) -> set[str]:
    absolute = Path(os.path.abspath(file))  # noqa: PTH100
    return {str(absolute), *map(str, absolute.parents)}
