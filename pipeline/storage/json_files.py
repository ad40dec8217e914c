"""Read what another step wrote as JSON; whatever is no such document is refused in one line.

A door names the fields that it uses, each with what it may be::

    CUT = Document("a cut", "`hs.probe`", {"cut": TEXT, "pooling": one_of("avg", "max")}, version=1)
    CUT.read(path)["cut"]

JSON is taken more strictly than by `json`: no key twice, no NaN, no infinity, no whole number beyond 64 bits, no deep
nesting, and nothing but UTF-8. So what passes can be computed with, printed and written again.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, get_type_hints

from pipeline.errors import ArtefactError, StorageError

LARGEST: Final = 2**26  # bytes: of what the steps write, nothing comes near
DEEPEST: Final = 64  # objects and lists within each other
LONGEST: Final = 200  # characters told of what was received
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
    """

    what: str
    maker: str
    fields: Mapping[str, Field]
    version: int | None = None
    each: Field | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """Read a document.

        Raises
        ------
        ArtefactError
            It is missing or is none of this kind; names the file, the field, what was expected and what was received.
        StorageError
            The disk fails, or the file may not be read.
        """
        return self.parse(self.data(path), path)

    def data(self, path: Path) -> bytes:
        """Return the bytes of a document, to be parsed; errors as for `read`."""
        try:
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
        return document

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


def loads(data: str | bytes) -> Any:
    """Return what a text in JSON says; ValueError if it is none, or says what no step would write."""
    if len(data) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    text = data if isinstance(data, str) else data.decode()
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_number, parse_float=_number, parse_int=_whole)
    except RecursionError:
        raise ValueError("a deeply nested text") from None
    _require_shallow(found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:20]}…, beyond 64 bits")
    return int(text)


def _require_shallow(found: Any) -> None:
    level = [found]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise ValueError("a deeply nested text")
