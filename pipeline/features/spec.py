"""The spec: everything that can change a feature's value, as canonical JSON. Its sha256 names the cache.

Batch size, threads, paths, labels, splits, views and order are not in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.errors import SpecError
from pipeline.storage.json_files import Document

Spec = Mapping[str, Any]

ANY: Final = Document("a spec", "`hs.extract`", {})
RANDOM: Final = (
    "the base has random weights (`weights=none`) and knows nothing of photos: try things with it, and trust no result"
)
# Features that differ only in these mean the same to a head, up to rounding; in any other field they do not.
TOLERATED: Final = (
    "decoder.version",
    "decoder.jpeg",
    "decoder.simplejpeg",
    "decoder.cykooz-resizer",
    "precision",
    "dtype",
    "engine",
)


def canonical(spec: Spec) -> str:
    """Return the one JSON text of a spec: keys sorted, no spaces, no NaN."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def identity(spec: Spec) -> str:
    """Return the sha256 of the canonical JSON, in lower-case hex."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


def differences(one: Spec, other: Spec) -> list[tuple[str, Any, Any]]:
    """List (field, value in one, value in the other) of the fields in which two specs differ, sorted by field.

    Nested fields are dotted: ``decoder.version``. A field that is missing counts as None.
    """
    left, right = dict(flat(one)), dict(flat(other))
    names = sorted(left.keys() | right.keys())
    return [(name, left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)]


def is_random(spec: Spec) -> bool:
    """Whether the base of these features, of a head or of a model, began with random weights."""
    weights = spec.get("weights")
    return isinstance(weights, Mapping) and weights.get("seed") is not None


def random_base(spec: Spec) -> list[str]:
    """Return the warning that the base is random, if it is, and was not trained since."""
    trained = "finetuned" in spec.get("weights", {})
    return [RANDOM] if is_random(spec) and not trained else []


def require_compatible(
    trained: Spec, offered: Spec, *, head: Path | None = None, features: Path | None = None
) -> list[str]:
    """Refuse features that mean something else than those a head was trained on.

    Parameters
    ----------
    trained : mapping
        The spec that the head keeps.
    offered : mapping
        The spec of the features it is handed.
    head, features : Path, optional
        Where the two lie, for the message.

    Returns
    -------
    list of str
        Warnings: fields that differ but only up to rounding (`TOLERATED`).

    Raises
    ------
    SpecError
        Another field differs; the message names each.
    """
    tolerated: list[str] = []
    refused: list[str] = []
    for field, expected, received in differences(trained, offered):
        message = f"{field}: expected {expected!r}, received {received!r}"
        (tolerated if _is_tolerated(field) else refused).append(message)
    if refused:
        other = "another spec" if features is None else f"another spec than those in {features}"
        raise SpecError(f"{head or 'the head'} was trained on features of {other}: {'; '.join(refused)}")
    return [f"the head was trained on features that differ slightly: {message}" for message in tolerated]


def _is_tolerated(field: str) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in TOLERATED)


def flat(spec: Spec, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a spec in its order, nested ones dotted: ``decoder.version``."""
    for key, value in spec.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
