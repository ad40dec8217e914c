"""Keywords of a Python function, made from a dataclass of settings: signature, docstring, and what is refused."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from pipeline.errors import naming_extras
from pipeline.photos.remote import Root, located
from pipeline.setting import Described, build, check, described, is_path, require_effect

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind")


def takes(kind: type) -> Callable[[Function], Function]:
    """Show the settings of a dataclass in the signature and docstring of a function, in place of ``**chosen``."""

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        fixed = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        keywords = [_parameter(one) for one in described(kind).values()]

        @functools.wraps(function)
        def called(*args: Any, **chosen: Any) -> Any:
            with naming_extras():
                return function(*args, **chosen)

        called.__dict__["__signature__"] = own.replace(parameters=[*fixed, *keywords])
        listed = [line for one in described(kind).values() for line in _documented(one)]
        title = "Other Parameters"
        called.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", title, "-" * len(title), *listed])
        return cast(Function, called)

    return decorate


def chosen_settings(kind: type[Kind], function: str, chosen: Mapping[str, Any]) -> Kind:
    """Return the settings that keywords mean.

    Parameters
    ----------
    kind : type
        A dataclass of settings.
    function : str
        Whose keywords they are, for the message.
    chosen : mapping of str to object
        A path may be text, and what holds several values a list, or a single one.

    Raises
    ------
    TypeError
        There is no such keyword; the message names the nearest.
    SettingError
        A value is not of its type, out of its range, or without effect beside the others.
    """
    known = described(cast(Any, kind))
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{function}() has no option {name!r}: {hint}")
    settings = build(kind, {name: _converted(known[name], value) for name, value in chosen.items()})
    check(settings)
    require_effect(settings, chosen)
    return settings


def _converted(one: Described, value: Any) -> Any:
    if get_origin(one.type) is tuple:
        each = value if isinstance(value, list | tuple) else (value,)
        return tuple(Path(one_of) if get_args(one.type)[0] is Path else one_of for one_of in each)
    if is_path(one.type) and isinstance(value, str):
        return located(value) if one.type == Root else Path(value)
    if value == "none" and one.optional and "none" in one.choices:
        return None  # as on the command line
    return value


def _parameter(one: Described) -> inspect.Parameter:
    default = None if one.factory else one.default
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(one))


def _annotation(one: Described) -> Any:
    return one.type | None if one.optional or one.factory else one.type


def _documented(one: Described) -> list[str]:
    default = one.about.unset if one.factory or (one.default is None and one.about.unset) else repr(one.default)
    kind = inspect.formatannotation(_annotation(one)).replace("typing.", "")
    return [f"{one.name} : {kind}, default {default}", f"    {one.about.help}".rstrip()]
