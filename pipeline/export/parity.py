"""Does an exported file do what the model does? Each is run on real images by its own runtime, in a process without us.

The model itself is run as `predict` runs it: our decoding, our resize, our engine. From the decoded pixels on, each
format does the rest itself, and a SavedModel from the bytes of the file on, too. A float format whose probabilities
differ by more than `TOLERANCE`, or whose labels do where the model is not torn between two by less than `MARGIN`, is no
export of this model. A quantised one differs by nature: how many labels agree says by how much.
"""

import contextlib
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.export import bundle, runtimes
from pipeline.export.formats import Format
from pipeline.features.spec import Spec
from pipeline.heads.calibration import thresholds
from pipeline.models import classifier
from pipeline.models.model import Model
from pipeline.models.settings import Runtime
from pipeline.photos import decode, squares
from pipeline.photos.batches import Fit, Photos
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.types import Floats

MARGIN: Final = 2e-3
TOLERANCE: Final = 1e-3
REPEATED: Final = 3  # the first image, so often, in one call at the end
BATCH: Final = 32  # images, of the model itself


@dataclass(frozen=True)
class ParityRow:
    """What was found of one format.

    Attributes
    ----------
    format : str
    megabytes : float
        Of all its files, in millions of bytes.
    images : int
    clear : int
        Images of which the model is sure by more than `MARGIN`.
    agreeing : int
        How many of these get the label that the model gives.
    largest_difference : float
        Of a probability, over all images, from the decoded pixels on; batches of several included.
    largest_difference_from_files : float or None
        From the bytes of the file on; None for a format that takes pixels only.
    milliseconds : float
        Median of calls with one image as it comes, of any size, resize included.
    """

    format: str
    megabytes: float
    images: int
    clear: int
    agreeing: int
    largest_difference: float
    largest_difference_from_files: float | None
    milliseconds: float


@dataclass(frozen=True)
class Reference:
    """Test images, with what the model makes of them.

    Attributes
    ----------
    table : Manifest
        The images.
    probabilities : ndarray of shape (n, K)
    work : Path
        A folder with ``pixels`` and ``squares``, an array an image, and ``files``, their bytes.
    """

    table: Manifest
    probabilities: Floats
    work: Path


def chosen(table: Manifest, split: str, count: int) -> Manifest:
    """Return the first images of a split in the order of their digests, which is a random one and always the same."""
    part = table.distinct(split)
    return part.take(range(min(count, len(part))))


@dataclass(frozen=True)
class _LaidOut(Photos):
    """Photos that are laid out, as they are read, in folders of `work`, for other processes to read."""

    work: Path = Path()
    square: Spec = field(default_factory=dict)

    def views(self, place: int, fit: Fit, numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return the square, made of the pixels that are laid out beside it."""
        data = self.read(place)
        how = squares.square_of(self.square)
        pixels = decode.decode_near(data, size=how["size"], decoder=how["decoder"])
        square = squares.square(pixels, **how)
        (self.work / "files" / f"{place:06}.image").write_bytes(data)
        np.save(self.work / "pixels" / f"{place:06}.npy", pixels)
        np.save(self.work / "squares" / f"{place:06}.npy", square)
        return [square]


@contextlib.contextmanager
def reference(
    model: Model, root: Root, table: Manifest, *, weights: str | None = None, cache: Path | None
) -> Iterator[Reference]:
    """Run the model itself over images, and lay out what other processes are to run over, for as long as the block.

    InputError if there is no image, one cannot be read, or the model has other classes.
    """
    if not len(table):
        raise InputError.of("manifest", "images in the test split to compare formats on", None)
    if strangers := sorted(set(table.labels) - set(model.classes)):
        raise InputError.of("manifest", f"classes of {model.directory}", ", ".join(strangers)[:200])
    with tempfile.TemporaryDirectory(prefix="headstart-parity-") as name:
        work = Path(name)
        for kind in ("pixels", "squares", "files"):
            (work / kind).mkdir()
        ours = classifier.load(model.directory, Runtime(weights, "auto", "float32", BATCH, cache))
        photos = _LaidOut(root, table.paths, table.digests, None, work, ours.square)
        yield Reference(table, ours.predict_proba(photos), work)


def compare(model: Model, directory: Path, row: Format, expected: Reference) -> ParityRow:
    """Run one format over the images of a reference, and compare.

    ArtefactError, which says in what and how far, if a float format does not do what the model does, or its runtime
    fails.
    """
    path, table = directory / row.path, expected.table
    kind, files = "pixels" if row.size == "any" else "squares", ["files"] if row.runtime == "tensorflow" else []
    ran = _run(path, [kind, *files], expected)
    found, seconds = ran[kind]
    largest = _largest(found, expected, path, strict=row.exact)
    from_files = _largest(ran["files"][0], expected, path, strict=row.exact) if files else None
    given = thresholds.decide(found[: len(table)], model.classes, model.threshold)
    ours = thresholds.decide(expected.probabilities, model.classes, model.threshold)
    clear = _margins(expected.probabilities, model) > MARGIN
    if row.exact and (others := np.flatnonzero(clear & (given != ours))).size:
        raise ArtefactError(
            f"{path}: expected {model.classes[ours[others[0]]]} for {table.paths[others[0]]}, as the model gives it, "
            f"received {model.classes[given[others[0]]]}"
        )
    return ParityRow(
        format=row.name,
        megabytes=sum(file.stat().st_size for file in bundle.files_of(directory, row)) / 1e6,
        images=len(table),
        clear=int(np.count_nonzero(clear)),
        agreeing=int(np.count_nonzero(given[clear] == ours[clear])),
        largest_difference=largest,
        largest_difference_from_files=from_files,
        milliseconds=float(np.median(seconds) * 1e3),
    )


def write(directory: Path, rows: Sequence[ParityRow], made: Mapping[str, Any]) -> None:
    """Write ``parity.json`` and ``parity.csv``."""
    document = {"margin": MARGIN, "tolerance": TOLERANCE, **made, "formats": [asdict(row) for row in rows]}
    bundle.publish_json(directory / bundle.PARITY_JSON, document)
    names = [field.name for field in fields(ParityRow)]
    with (directory / bundle.PARITY_CSV).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if value is None else value for value in asdict(row).values()] for row in rows])


def _run(path: Path, kinds: Sequence[str], expected: Reference) -> dict[str, tuple[Floats, Floats]]:
    """Run a file over all images in a process of its own; the last rows are of several images in one call."""
    out = expected.work / "out.npz"
    arguments = [str(path), str(expected.work), str(out), str(REPEATED), *kinds]
    done = subprocess.run(  # noqa: S603  # our own program, on files just written
        [sys.executable, "-I", runtimes.__file__, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise ArtefactError(f"{path}: expected its runtime to run it, received {said[-1]}")
    shape = (len(expected.table) + REPEATED, expected.probabilities.shape[1])
    with np.load(out) as stored:
        found = {
            kind: (stored[f"{kind}_probabilities"].astype(np.float64), stored[f"{kind}_seconds"]) for kind in kinds
        }
    for rows, _ in found.values():
        if rows.shape != shape or not np.isfinite(rows).all():
            raise ArtefactError(f"{path}: expected finite probabilities {shape}, received {rows.shape}, or NaN in it")
    return found


def _largest(found: Floats, expected: Reference, path: Path, *, strict: bool) -> float:
    ours = np.concatenate([expected.probabilities, np.repeat(expected.probabilities[:1], REPEATED, axis=0)])
    each = np.abs(found - ours).max(axis=1)
    worst = int(each.argmax())
    if strict and each[worst] > TOLERANCE:
        several = worst >= len(expected.table)
        name = expected.table.paths[0 if several else worst]
        raise ArtefactError(
            f"{path}: expected the probabilities of the model to {TOLERANCE}, received some {each[worst]:.4f} off, for "
            f"{name}{f', {REPEATED} times in one call' if several else ''}"
        )
    return float(each[worst])


def _margins(probabilities: Floats, model: Model) -> Floats:
    """Return by how much the label is the likeliest, or of two classes twice how far a threshold is away."""
    if model.threshold is None:
        ordered = np.sort(probabilities, axis=1)
        return np.asarray(ordered[:, -1] - ordered[:, -2])
    code = model.classes.index(model.threshold["positive"])
    return np.asarray(2 * np.abs(probabilities[:, code] - model.threshold["value"]))
