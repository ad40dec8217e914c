"""What DVC makes of values in params.yaml, where click's own messages would lead astray."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

# To DVC these are words, as to YAML 1.2; and so are those in quotes.
SWITCHES: Final = frozenset({"yes", "no", "on", "off", "y", "n", "true", "True", "false", "False", "1", "0"})


def without_null(params: Sequence[click.Parameter], args: Sequence[str]) -> list[str]:
    """Leave out options, and sections, that are null in params.yaml: DVC spells that None. A text may well be None."""
    options = _options(params)
    places = sum(one.nargs for one in params if isinstance(one, click.Argument))
    kept: list[str] = []
    named = 0  # what is no option, nor the value of one
    for arg in args:
        before = options.get(kept[-1]) if kept else None
        if arg == "None" and before and before.type is not click.STRING:
            kept.pop()
            continue
        if before and before.is_flag and arg in SWITCHES and not Path(arg).exists():  # it would pass for a name
            raise click.UsageError(_of_switch(kept[-1], arg))
        if (before is None or before.is_flag) and not arg.startswith("-"):
            named += 1
            if arg == "None" and named > places and all(one.nargs > 0 for one in params):
                continue
        kept.append(arg)
    return kept


def explained(params: Sequence[click.Parameter], args: Sequence[str], error: str) -> str | None:
    """Return other words for an error of click's that comes of a list, or of a word for true or false.

    `params` are those of the command, `args` all that it was given, `error` is click's message.
    """
    extra = re.search(r"unexpected extra arguments? [(](.*)[)]", error)
    if not extra:
        return None
    for name, option, values in _given(params, args):
        received = " ".join(values)
        if option.is_flag and received == extra[1] and values[0] in SWITCHES:
            return _of_switch(name, received)
        if not option.is_flag and " ".join(values[1:]) == extra[1]:
            return f"{name}: expected one value, as {','.join(values)}, in params.yaml, too; received {received}"
    return None


def _of_switch(name: str, received: str) -> str:
    return f"{name}: expected nothing after it, or true or false, unquoted, in params.yaml; received {received}"


def _given(params: Sequence[click.Parameter], args: Sequence[str]) -> Iterator[tuple[str, click.Option, Sequence[str]]]:
    """Yield each option with all that stands between it and the next."""
    options = _options(params)
    places = [place for place, arg in enumerate(args) if arg.startswith("-")]
    for place, end in zip(places, [*places, len(args)][1:], strict=True):
        if args[place] in options and end > place + 1:
            yield args[place], options[args[place]], args[place + 1 : end]


def _options(params: Sequence[click.Parameter]) -> dict[str, click.Option]:
    return {name: one for one in params if isinstance(one, click.Option) for name in one.opts}
