"""The options of a command, made from the dataclass of its settings: name, type, default, range and help."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource

from pipeline.photos.remote import Root
from pipeline.setting import Described, build, described, require_effect
from stages.options.param_types import FloatRange, Several, joined, names, numbers, widths
from stages.options.paths import FILE, FOLDER, PLACE
from stages.options.translate import in_options

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind")

UNITS: Final = "kMGT"  # powers of 1,000


def options(kind: type, *, only: Collection[str] = (), but: Collection[str] = ()) -> Callable[[Function], Function]:
    """Give a command an option for each setting of a dataclass; `settings_of` takes their values.

    `only` are the settings that get one here, all if empty; those in `but` get none.
    """

    def decorate(function: Function) -> Function:
        for name, one in reversed(described(kind).items()):
            if name not in but and (not only or name in only):
                function = option(one)(function)
        return function

    return decorate


def settings_of(kind: type[Kind], chosen: Mapping[str, Any], *, but: Collection[str] = ()) -> Kind:
    """Make settings of a command's options; SettingError for one, `but` these, that was given without effect."""
    require_effect(build(kind, {name: value for name, value in chosen.items() if name not in but}), given() - set(but))
    return build(kind, chosen)


def given() -> frozenset[str]:
    """Return the names of the parameters that the user gave a value, be it the default."""
    context = click.get_current_context()
    return frozenset(
        name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    )


def option(one: Described) -> Callable[[Function], Function]:
    """Return the option of one setting."""
    about, default = one.about, one.factory or one.default
    words, text = [f"--{one.name.replace('_', '-')}", one.name], in_options(about.help)
    if about.unset:
        text = f"{text}  [default: {about.unset}]".strip()
    if one.type is bool:
        return click.option(*words, is_flag=True, help=text)
    more: dict[str, Any] = {"metavar": about.metavar} if about.metavar else {}
    if get_origin(one.type) is tuple and default == () and about.metavar:
        kind = click.Path(path_type=Path) if get_args(one.type)[0] is Path else None
        return click.option(*words, multiple=True, type=kind, help=text, **more)
    if one.choices and get_origin(one.type) is tuple:
        more |= {"type": Several(one.choices), "default": default}
        text = f"{text}  [default: {','.join(one.default)}]"  # click would show a tuple
        return click.option(*words, multiple=True, callback=joined, help=text, **more)
    kind, callback = _type(one)
    if callback:
        more["callback"] = callback
    if default is not None or "none" in about.choices:
        more |= {"default": default if one.factory else _as_text(default, about.unit), "show_default": not one.factory}
    return click.option(*words, type=kind, help=text, **more)


def _type(one: Described) -> tuple[Any, Callable[..., Any] | None]:
    """Return the click type of a setting, and what turns its text into a value if the type does not."""
    about, kind = one.about, one.type
    if one.choices:
        return click.Choice(one.choices), _none if one.optional and about.choices else None
    if get_origin(kind) is tuple:
        return str, {int: widths, float: numbers}.get(get_args(kind)[0], names)
    if kind == Root:
        return PLACE, None
    if kind is Path:
        return {None: click.Path(path_type=Path), "file": FILE, "folder": FOLDER}[about.only], None
    if about.unit:
        return str, _bytes
    least = about.least if about.above is None else about.above
    most = about.most if about.below is None else about.below
    if kind not in (int, float) or (least is None and most is None):
        return kind, None
    ends: dict[str, Any] = {"min_open": about.above is not None, "max_open": about.below is not None}
    if kind is int:
        return click.IntRange(_whole(least), _whole(most), **ends), _other_than(about.never)
    return FloatRange(least, most, **ends), None


def _whole(end: float | None) -> int | None:
    return None if end is None else int(end)


def _as_text(default: Any, unit: str | None) -> Any:
    """Return a default as a user would write it."""
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    if unit:
        power = max(power for power in range(len(UNITS) + 1) if default % 1000**power == 0)
        return f"{default // 1000**power}{(' ' + UNITS)[power].strip()}B"
    return default


def _none(ctx: click.Context, parameter: click.Parameter, text: str) -> str | None:
    return None if text == "none" else text


def _other_than(never: int | None) -> Callable[..., Any] | None:
    if never is None:
        return None

    def other(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
        if value == never:
            raise click.BadParameter(f"expected 0, or 2 or more, received {value}", ctx, parameter)
        return value

    return other


def _bytes(ctx: click.Context, parameter: click.Parameter, text: str) -> int:
    """Turn ``500MB``, ``2.5GB`` or a plain number of bytes into a number of bytes; units are powers of 1,000."""
    found = re.fullmatch(rf"([0-9]+(?:[.][0-9]+)?) *(|[{UNITS}])B?", text)
    if not found:
        raise click.BadParameter(f"expected bytes as in 500MB or 2GB, received {text!r}", ctx, parameter)
    return int(float(found[1]) * 1000 ** (UNITS.index(found[2]) + 1 if found[2] else 0))
