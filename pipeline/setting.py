"""What a stage can be asked for: each setting is a field of a frozen dataclass, with its default, range and help.

The dataclasses stand in the ``settings.py`` of the rooms. The command line makes its options of them, and
`headstart` its keywords, so that a default, a range and the sentence that explains it are written once::

    @dataclass(frozen=True, kw_only=True)
    class ExampleSettings:
        size: int | None = setting(None, "Side of the input, px.", least=1, unset="the backbone's own")
        resize: Literal["squash", "crop"] = setting("squash", "How a rectangle becomes a square.")
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.errors import SettingError

KEY: Final = "setting"
GROUP: Final = "group"
NEEDS: Final = "needs"

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Need:
    """What another setting must be for one to have an effect.

    Attributes
    ----------
    name : str
        The other one.
    values : tuple
        It must be one of these, or hold one; None stands for not set. Empty: it must be on, set, or `least` at least.
    least : int
    """

    name: str
    values: tuple[Any, ...] = ()
    least: int = 1

    def is_met(self, value: Any) -> bool:
        """Whether a value of the other setting lets the one have its effect."""
        if self.values:
            return not {*(value if isinstance(value, tuple) else (value,))}.isdisjoint(self.values)
        return bool(value >= self.least) if isinstance(value, int) else bool(value)

    def words(self, other: "Described") -> str:
        """Say what is needed, in the names of `pipeline.errors`."""
        if self.values == (None,):
            return f"no `{self.name}`"
        if self.values:
            return " or ".join(f"`{self.name}={value!r}`" for value in self.values)
        if other.type is bool:
            return f"`{self.name}=True`"
        return f"`{self.name}` of {self.least} or more" if other.type is int else f"`{self.name}`"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field says of itself besides its name, type and default.

    Attributes
    ----------
    help : str
        One sentence.
    least, most, above, below : float or None
        Ends of the range: included, and not included.
    never : int or None
        A value within the range that makes no sense.
    choices : tuple of str
        Its values, ``none`` standing for None; empty unless they differ from those of the type.
    unset : str
        What None means, for the help.
    metavar : str or None
        What stands for a value in the help.
    only : {"file", "folder"} or None
        Of a path: what it must be if it exists.
    unit : {"bytes"} or None
        A number that may be written with a unit, as in 500MB.
    needs : tuple of Need
        It has an effect if one of these is met; always if there are none.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    never: int | None = None
    choices: tuple[str, ...] = ()
    unset: str = ""
    metavar: str | None = None
    only: Literal["file", "folder"] | None = None
    unit: Literal["bytes"] | None = None
    needs: tuple[Need, ...] = ()


def setting(default: Any, help: str, **more: Any) -> Any:  # noqa: A002 -- the word of argparse and click
    """Return a field of a dataclass of settings; `more` are the other attributes of `Setting`.

    A callable `default` returns the default: what depends on where the program runs. `help` is one sentence.
    """
    metadata = {KEY: Setting(help=help, **more)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(kind: Callable[[], Any], *, needs: tuple[Need, ...] = ()) -> Any:
    """Return a field that holds other settings, each with these needs; to a user they are settings like the rest."""
    return dataclasses.field(default_factory=kind, metadata={GROUP: True, NEEDS: needs})


@dataclass(frozen=True)
class Described:
    """A setting as a user sees it: where it belongs, its type without None, and all that its field says.

    Attributes
    ----------
    name : str
    type : type
        Without None, if that is allowed.
    optional : bool
        Whether it may be None.
    default : object
        MISSING if `factory` makes it.
    factory : callable or None
    about : Setting
    """

    name: str
    type: Any
    optional: bool
    default: Any
    factory: Callable[[], Any] | None
    about: Setting

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it can have; empty if they are not listed."""
        if self.about.choices:
            return self.about.choices
        kind = get_args(self.type)[0] if get_origin(self.type) is tuple else self.type
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()

    def check(self, value: Any) -> None:
        """Raise SettingError unless a value is of its type and in its range."""
        if value is None and (self.optional or self.factory):
            return
        if self.choices:
            several = get_origin(self.type) is tuple
            if not set(value if several else (value,)) <= set(self.choices):
                raise self._refused(f"{'some' if several else 'one'} of {', '.join(self.choices)}", value)
        elif self.type is bool and not isinstance(value, bool):
            raise self._refused("True or False", value)
        elif self.type in (int, float):
            self._check_number(value)

    def _check_number(self, value: Any) -> None:
        about, whole = self.about, self.type is int
        number = math.nan
        if not isinstance(value, bool) and isinstance(value, int if whole else int | float):
            number = float(value)
        inside = (
            math.isfinite(number)
            and (about.least is None or number >= about.least)
            and (about.most is None or number <= about.most)
            and (about.above is None or number > about.above)
            and (about.below is None or number < about.below)
            and number != about.never
        )
        if not inside:
            raise self._refused(f"{'a whole number' if whole else 'a number'}{self._range()}", value)

    def _range(self) -> str:
        about = self.about
        words = (
            ("of at least", about.least),
            ("above", about.above),
            ("of at most", about.most),
            ("below", about.below),
        )
        ends = [f"{word} {end:g}" for word, end in words if end is not None]
        if about.never is not None:
            ends.append(f"not {about.never}")
        return f" {' and '.join(ends)}" if ends else ""

    def _refused(self, expected: str, value: Any) -> SettingError:
        return SettingError.of(self.name, expected, repr(value))


@cache
def described(kind: type) -> dict[str, Described]:
    """Return the settings of a dataclass by name, in its order, those of its groups in the group's place."""
    types = get_type_hints(kind)
    found: dict[str, Described] = {}
    for field in dataclasses.fields(kind):
        if field.metadata.get(GROUP):
            for name, one in described(types[field.name]).items():
                needs = one.about.needs or field.metadata[NEEDS]
                found[name] = dataclasses.replace(one, about=dataclasses.replace(one.about, needs=needs))
        elif KEY in field.metadata:
            found[field.name] = _described(field, types[field.name])
    return found


def _described(field: "Field[Any]", kind: Any) -> Described:
    optional = get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)
    if optional:
        rest = tuple(each for each in get_args(kind) if each is not NoneType)
        kind = rest[0] if len(rest) == 1 else Union[rest]  # noqa: UP007 -- of a tuple
    factory = None if field.default_factory is MISSING else field.default_factory
    return Described(field.name, kind, optional, field.default, factory, field.metadata[KEY])


def build(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Make settings of values by name, whichever group they belong to; what is not named has its default.

    Names that are no setting of `kind` are left out. None, where a factory makes the default, stands for that.
    """
    types = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.metadata.get(GROUP):
            arguments[field.name] = build(types[field.name], values)
        elif field.name in values and not (values[field.name] is None and field.default_factory is not MISSING):
            arguments[field.name] = values[field.name]
    return kind(**arguments)


def check(settings: Any) -> None:
    """Raise SettingError, naming the setting, unless each is of its type and in its range."""
    kinds = described(settings.__class__)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get(GROUP):
            check(value)
        elif field.name in kinds:
            kinds[field.name].check(value)


def require_effect(settings: Any, given: Collection[str] = ()) -> None:
    """Raise SettingError, naming what it needs, for a setting that can have no effect beside the others.

    Looked at are settings that differ from their default, and those that somebody has `given`. A given default passes
    beside a given switch: params.yaml holds a learning rate for the day when its ``epochs: 0`` is raised.
    """
    known, values = described(settings.__class__), dict(_flat(settings))
    for name, one in known.items():
        needs = [need for need in one.about.needs if need.name in known]
        if not needs or any(need.is_met(values[need.name]) for need in needs):
            continue
        switched = any(need.name in given and need.values != (None,) for need in needs)
        changed = one.factory is None and values[name] != one.default
        if changed or (name in given and not switched):
            wanted = " or ".join(need.words(known[need.name]) for need in needs)
            value = None if len(needs) > 1 else values[needs[0].name]
            shown = value[0] if isinstance(value, tuple) and value else str(value) if isinstance(value, Path) else value
            none = shown is None or shown is False or shown == ()
            raise SettingError.of(name, f"with {wanted}", None if none else f"`{needs[0].name}={shown!r}`")


def _flat(settings: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get(GROUP):
            yield from _flat(value)
        else:
            yield field.name, value


def is_path(kind: Any) -> bool:
    """Whether a setting's type is a path, or may be one."""
    return kind is Path or Path in get_args(kind)
