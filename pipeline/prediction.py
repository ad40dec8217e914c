"""Photos in, labels and probabilities out, from a head directory whose spec rebuilds the trunk."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import engines, extraction, heads, images, spec
from pipeline.errors import ArtefactError, ImageError, InputError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What became of one file.

    Attributes
    ----------
    path : Path
        As it was given, or as it was found in a folder that was given.
    label : str or None
        The most probable class; None if the file could not be used.
    probabilities : dict of str to float
        One a class, adding up to 1; empty if the file could not be used.
    error : str or None
        Why it could not be used.
    """

    path: Path
    label: str | None
    probabilities: dict[str, float]
    error: str | None


class Predictor:
    """A trained head with the trunk that it was trained on.

    Parameters
    ----------
    head_dir : Path
        Written by `pipeline.training.train`.
    weights : str or None
        The base's weights, as in `pipeline.extraction.Settings`; their sha256 is checked against the one the head
        keeps. None: ``none`` if the head was trained on a random base, else ``imagenet``.
    engine : {"auto", "tensorflow", "openvino"}
        ``auto`` is the one that the head's spec names, if it names one.
    precision : {"float32", "bfloat16", "float16"} or None
        Of the arithmetic; None is the one the head was trained on.
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

    Raises
    ------
    SpecError
        The weights are not those the head was trained on.
    """

    def __init__(
        self,
        head_dir: Path,
        *,
        weights: str | None,
        engine: str,
        precision: engines.Precision | None,
        batch_size: int,
        cache: Path | None,
    ) -> None:
        self.head, record = heads.load(head_dir)
        self.classes: list[str] = record["classes"]
        self.plan = _rebuild(head_dir, record["spec"], weights, engine, precision)
        self.warnings = spec.require_compatible(record["spec"], self.plan.spec)
        self.batch_size = batch_size
        self.cache = cache
        self._engine: engines.Engine | None = None

    def predict(self, paths: Sequence[Path], *, progress: Progress) -> Iterator[Prediction]:
        """Yield one prediction a path, in order; a file that cannot be used gets one with its error.

        Parameters
        ----------
        paths : sequence of Path
            Image files; `expand` makes them from folders.
        progress : callable
            Called with (files done, files).
        """
        outcomes: deque[tuple[Path, ImageError | None]] = deque()
        size, geometry = self.plan.size, self.plan.spec["resize"]

        def load(place: int) -> NDArray[np.uint8]:
            return images.fit(images.read_bytes(paths[place]), size=size, geometry=geometry)

        def batches() -> Iterator[NDArray[np.uint8]]:
            batch: list[NDArray[np.uint8]] = []
            ahead = extraction.BATCHES_AHEAD * self.batch_size
            for place, pixels in extraction.decoded(len(paths), load, ahead=ahead):
                if isinstance(pixels, ImageError):
                    outcomes.append((paths[place], pixels))
                    continue
                outcomes.append((paths[place], None))
                batch.append(pixels)
                if len(batch) == self.batch_size:
                    yield np.stack(batch)
                    batch.clear()
            if batch:
                yield np.stack(batch)

        done = 0
        for features in self._open().run(batches()):
            for row in self.head.predict_proba(features.reshape(len(features), -1)):
                while outcomes[0][1]:
                    yield _failed(*outcomes.popleft())
                    done += 1
                yield self._succeeded(outcomes.popleft()[0], row)
                done += 1
            progress(done, len(paths))
        while outcomes:
            yield _failed(*outcomes.popleft())
        progress(len(paths), len(paths))

    def _open(self) -> engines.Engine:
        if self._engine is None:
            self._engine = extraction.open_engine(self.plan, batch_size=self.batch_size, cache=self.cache)
        return self._engine

    def _succeeded(self, path: Path, row: NDArray[np.float64]) -> Prediction:
        return Prediction(
            path, self.classes[int(row.argmax())], dict(zip(self.classes, row.tolist(), strict=True)), None
        )


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


def _rebuild(
    head_dir: Path, trained: spec.Spec, weights: str | None, engine: str, precision: engines.Precision | None
) -> extraction.Plan:
    try:
        seed = trained["weights"].get("seed")
        settings = extraction.Settings(
            backbone=trained["backbone"]["name"],
            alpha=trained["backbone"]["alpha"],
            weights=weights or ("imagenet" if seed is None else "none"),
            seed=seed or 0,
            size=trained["size"],
            resize=trained["resize"],
            cut=trained["cut"],
            pooling=trained["pooling"],
            precision=precision or trained["precision"],
            dtype=trained["dtype"],
        )
        if engine == "auto" and "engine" in trained:
            engine = trained["engine"]["name"]
    except (KeyError, AttributeError, TypeError) as error:
        raise ArtefactError(f"{head_dir}: its spec does not say how the features were made: {error!r}") from error
    return extraction.plan(settings, engine=engine)


def _failed(path: Path, error: ImageError | None) -> Prediction:
    return Prediction(path, None, {}, str(error))
