"""Words of the library as a user of the command line types them."""

import re
from typing import Final

from pipeline.errors import NAMED, SETTING

QUOTES: Final = "'\""


def in_options(text: str) -> str:
    """Return what the library says, with settings as options and steps as commands: see `pipeline.errors`."""
    return NAMED.sub(_as_typed, text)


def _as_typed(found: "re.Match[str]") -> str:
    if not found["step"]:
        return _option(found)
    options = re.sub(SETTING, _option, found["arguments"] or "").replace(",", "")
    return f"`{' '.join(('headstart', found['step'], options)).strip()}`"


def _option(found: "re.Match[str]") -> str:
    name, value = f"--{found['setting'].replace('_', '-')}", found["value"]
    if value in (None, "True", "..."):
        return name
    return f"{name} {'none' if value == 'None' else value.strip(QUOTES)}"
