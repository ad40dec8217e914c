"""Read what another step wrote as JSON; whatever is no such document is refused in one line.

A door names the fields that it uses, each with what it may be::

    CUT = Document("a cut", "`hs.probe`", {"cut": TEXT, "pooling": one_of("avg", "max")}, version=1)
    CUT.read(path)["cut"]

A flipped bit is found, too. A document that `publish` wrote holds its own sha256, and a file that `publish_digests`
listed has its in the ``digests.json`` beside it: whoever reads one with `sealed` or `listed` set, or asks
`require_listed`, gets it as it was written, or an error.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, get_type_hints

from pipeline.errors import ArtefactError, InputError, StorageError
from pipeline.storage import digests
from pipeline.storage.atomic import published
from pipeline.storage.regular_files import require_regular
from pipeline.storage.strict_json import LARGEST, loads

LONGEST: Final = 200  # characters told of what was received
SEAL: Final = "sha256"
DIGESTS_FILE: Final = "digests.json"
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")  # halves of a character, which nobody can print


@dataclass(frozen=True)
class Field:
    """What a value may be.

    Attributes
    ----------
    expected : str
        In words.
    fits : callable
        Tells whether a value is that; a field that is missing is None.
    inner : mapping of str to Field
        Of an object: the fields in it.
    each : Field or None
        Of a list or an object: what each value in it is.
    """

    expected: str
    fits: Callable[[Any], bool]
    inner: Mapping[str, "Field"] = field(default_factory=dict)
    each: "Field | None" = None

    def faults(self, value: Any, name: str = "") -> Iterator[tuple[str, str, Any]]:
        """Yield (field, expected, received) of all that does not fit, nested fields dotted: ``spec.size``."""
        if not self.fits(value):
            yield name, self.expected, value
        elif value is not None:
            dot = f"{name}." if name else ""
            for key, one in self.inner.items():
                yield from one.faults(value.get(key), f"{dot}{key}")
            if self.each:
                for place, found in value.items() if isinstance(value, dict) else enumerate(value):
                    yield from self.each.faults(found, f"{dot}{place}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TEXT: Final = Field("a text", lambda value: isinstance(value, str))
SHA256: Final = Field("a sha256", lambda value: isinstance(value, str) and bool(_SHA256.fullmatch(value)))
OBJECT: Final = Field("a JSON object", lambda value: isinstance(value, dict))
LABELS: Final = Field(
    "two labels or more that differ",
    lambda value: (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(label, str) and label and not _SURROGATES.search(label) for label in value)
        and len(set(value)) == len(value)
    ),
)
DIGESTS: Final = replace(OBJECT, each=SHA256)


def number(least: float = -math.inf, most: float = math.inf) -> Field:
    """Return a number in [least, most]; true and false are none."""
    told = f" of at least {least:g}" if most == math.inf else f" from {least:g} to {most:g}"
    return Field(
        f"a number{'' if least == -math.inf else told}", lambda value: _is_number(value) and least <= value <= most
    )


def whole(least: int = 0, most: float = math.inf) -> Field:
    """Return a whole number in [least, most]."""
    told = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Field(f"a whole number {told}", lambda value: type(value) is int and least <= value <= most)


def one_of(*choices: str) -> Field:
    """Return one of some texts."""
    return Field(f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)


def object_of(**inner: Field) -> Field:
    """Return an object with these fields at least."""
    return replace(OBJECT, inner=inner)


def each(one: Field, *, least: int = 0) -> Field:
    """Return a list of such, so many at least."""
    what = "a list" if least == 0 else f"a list of at least {least}"
    return Field(what, lambda value: isinstance(value, list) and len(value) >= least, each=one)


def maybe(one: Field) -> Field:
    """Return the field as one that may be missing, or null."""
    return replace(one, expected=f"{one.expected}, or none", fits=lambda value: value is None or one.fits(value))


_OF_TYPES: Final = {
    str: TEXT,
    int: whole(),
    float: number(),
    str | None: maybe(TEXT),
    float | None: maybe(number()),
}


def fields_of(kind: type) -> dict[str, Field]:
    """Return the fields of a dataclass of texts and numbers, as ``asdict`` writes them."""
    return {name: _OF_TYPES[hint] for name, hint in get_type_hints(kind).items()}


@dataclass(frozen=True)
class Document:
    """A kind of document.

    Attributes
    ----------
    what : str
        As a message calls it: ``a trained head``.
    maker : str
        The step that writes it, as `pipeline.errors` spells it.
    fields : mapping of str to Field
        Those that it must have; what else it has is left alone.
    version : int or None
        That of its field ``format``, if it has one.
    each : Field or None
        What each of its fields is.
    sealed : bool
        Whether it holds its own sha256, as `publish` writes it.
    listed : bool
        Whether its sha256 stands in ``digests.json`` beside it, as `publish_digests` writes it.
    """

    what: str
    maker: str
    fields: Mapping[str, Field]
    version: int | None = None
    each: Field | None = None
    sealed: bool = False
    listed: bool = False

    def read(self, path: Path) -> dict[str, Any]:
        """Read a document.

        ArtefactError, which names the file, the field, what was expected and what was received, if it is missing, is
        none of this kind, or is not as it was written; StorageError if the disk fails, or the file may not be read.
        """
        data = self.data(path)
        if self.listed:
            require_listed(path, data, self.maker)
        return self.parse(data, path)

    def data(self, path: Path) -> bytes:
        """Return the bytes of a document, to be parsed; errors as for `read`."""
        try:
            require_regular(path)
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            self.refuse(path, self.what, "no such file")
        except IsADirectoryError:
            self.refuse(path, self.what, "a folder")
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
        return data

    def parse(self, data: str | bytes, source: Path | str) -> dict[str, Any]:
        """Read a document from its text; `source` is where that stands, for the message."""
        try:
            document = loads(data)
        except ValueError as error:
            self.refuse(source, f"{self.what} in JSON", str(error))
        if not isinstance(document, dict):
            self.refuse(source, f"{self.what}, a JSON object", document)
        found = document.get("format")
        if self.version is not None and (type(found) is not int or found != self.version):
            told = f"format {found}, of another version" if type(found) is int else found
            self.refuse(source, f"{self.what} of format {self.version}", told)
        self.require(document, source)
        if self.sealed:
            self._require_seal(document.get(SEAL), data if isinstance(data, bytes) else data.encode(), source)
        return document

    def _require_seal(self, found: object, data: bytes, source: Path | str) -> None:
        if not SHA256.fits(found):
            told = "none, as an earlier version left it" if found is None else found
            self.refuse(source, f"{self.what} with its own sha256", told)
        if (received := digests.of_sealed(data, str(found))) != found:
            self.refuse(source, f"sha256 {found}, as it says itself, and not a damaged or edited file", received)

    def require(self, document: Any, source: Path | str) -> None:
        """Refuse a document, or an object out of one, that lacks a field or has one that is of another kind."""
        for name, expected, received in replace(OBJECT, inner=self.fields, each=self.each).faults(document):
            told = None if received is None else repr(received)
            self.refuse(source, f"{name}: {expected}" if name else expected, told)

    def refuse(self, source: Path | str, expected: str, received: object) -> NoReturn:
        """Raise ArtefactError: `source` is not what was expected."""
        told = "none" if received is None else received if isinstance(received, str) else repr(received)
        raise ArtefactError(
            f"{source}: expected {expected}, received {told[:LONGEST] or 'an empty text'}; run {self.maker} again"
        )


# What says that a folder is this: a step that writes another kind there would leave a folder that is both.
RECORDS: Final = {
    "head.json": "a head",
    "model.json": "a model",
    "export.json": "an export",
    "all_metrics.json": "an evaluation",
    "comparison.json": "a comparison",
    "audit.json": "an audit",
    "growth.json": "a learning curve",
}


def require_own(folder: Path, record: str) -> None:
    """Raise InputError where a folder holds another kind of result than that of which `record` is a key."""
    for name, what in RECORDS.items():
        if name != record and (folder / name).exists():
            raise InputError(f"{folder}: expected a folder for {RECORDS[record]} alone, received one with {what}")


LISTED: Final = Document("the sha256 of the files beside it", "what wrote them", {"files": DIGESTS}, sealed=True)


def publish(path: Path, document: Mapping[str, Any]) -> None:
    """Publish a document as JSON, its keys sorted, with its own sha256 in it."""
    with published(path) as temporary:
        temporary.write_text(sealed(document), encoding="utf-8")


def sealed(document: Mapping[str, Any]) -> str:
    """Return the text of a document as `publish` writes it."""
    place = f'\n  "{SEAL}": "%s"'  # no text in JSON holds a line's end, and what is nested stands further right
    unsealed = {**document, SEAL: digests.UNKNOWN}
    text = json.dumps(unsealed, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return text.replace(place % digests.UNKNOWN, place % hashlib.sha256(text.encode()).hexdigest())


def publish_digests(folder: Path, names: Iterable[str], *, file: str = DIGESTS_FILE) -> None:
    """Publish the sha256 of files in a folder, after the last of them; those of other files there are kept."""
    try:
        before = LISTED.read(folder / file)["files"]
    except ArtefactError:
        before = {}
    kept = {name: digest for name, digest in before.items() if (folder / name).is_file()}
    publish(folder / file, {"files": kept | {name: digests.of_file(folder / name) for name in names}})


def require_listed(path: Path, data: bytes, maker: str) -> None:
    """Raise ArtefactError if a file does not hold what was published: `data` are its bytes, `maker` wrote it."""
    source = path.with_name(DIGESTS_FILE)
    expected = replace(LISTED, maker=maker).read(source)["files"].get(path.name)
    received = hashlib.sha256(data).hexdigest()
    if received != expected:
        replace(LISTED, maker=maker).refuse(path, f"sha256 {expected}, as {DIGESTS_FILE} says", received)
