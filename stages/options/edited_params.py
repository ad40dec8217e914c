"""params.yaml with other values, and whether DVC can hand them on to a shell."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from pipeline.errors import ArtefactError, InputError

PARAMS: Final = "params.yaml"
IMAGES, HEADS, JOINED = "images", "train", "finetune"
OPTION: Final = re.compile(r"[\w-]+", re.ASCII)

Options = dict[str, Any]


def edited(path: Path, sections: Mapping[str, Options], changes: Sequence[str]) -> str:
    """Return the text of params.yaml with other sections and values; comments of the other sections stay.

    The file stays as it is. Each of `sections` takes the place of the whole section; a dot leads into a section.
    `changes` are as ``dvc exp run --set-param`` takes them: KEY=VALUE, or +KEY=VALUE for a key that is not there.
    """
    from ruamel.yaml import YAML  # as DVC does: to PyYAML a bare `no` is not a text
    from ruamel.yaml.error import YAMLError

    yaml, written = YAML(), StringIO()
    try:
        params = yaml.load(path.read_bytes())
    except YAMLError as error:
        raise ArtefactError(f"{path}: expected YAML: {error}") from error
    if not isinstance(params, dict):
        raise ArtefactError(f"{path}: expected sections of options, received {type(params).__name__}")
    for section, options in sections.items():
        *outer, name = section.split(".")
        _section(params, outer)[name] = options
    for change in changes:
        key, equals, value = change.partition("=")
        *outer, name = key.removeprefix("+").split(".")
        options = _section(params, outer)
        if not equals or not name:
            raise InputError(f"--set-param: expected KEY=VALUE, received {change!r}")
        if name not in options and not key.startswith("+"):
            known = f"{'.'.join(outer) or PARAMS} has {', '.join(map(str, options)) or 'none'}"
            raise InputError(f"--set-param: expected a key of {PARAMS}, received {key!r}: {known}; `+{change}` adds it")
        try:
            options[name] = YAML(typ="safe").load(value)
        except YAMLError as error:
            raise InputError(f"--set-param {key}: expected a value as YAML has it, received {value!r}") from error
    require_quotable(params)
    yaml.dump(params, written)
    return written.getvalue()


def require_quotable(params: Options) -> None:
    """Raise InputError unless no shell takes a name in params.yaml for a command, as ``dvc.yaml`` quotes them.

    There the folder of images and the names of heads stand in single quotes, hence hold none. DVC quotes the values of
    options, and not their names.
    """
    heads = params.get(HEADS)
    of_heads = list(heads.items()) if isinstance(heads, dict) else []
    joined = params.get(JOINED)
    quoted = [
        params.get(IMAGES),
        *(name for name, _ in of_heads),
        joined.get("head") if isinstance(joined, dict) else "",
    ]
    if wrong := next((name for name in map(str, quoted) if "'" in name), None):
        raise InputError(f"{PARAMS}: expected names without ', in which dvc.yaml quotes them, received {wrong}")
    sections = [options for section, options in [*params.items(), *of_heads] if section != HEADS]
    for option in (name for options in sections if isinstance(options, dict) for name in options):
        if not OPTION.fullmatch(str(option)):
            raise InputError(f"{PARAMS}: expected options of letters, digits and hyphens, received {option!r}")


def _section(params: Options, names: Sequence[str]) -> Options:
    """Return the section that `names` lead to, made where it is missing."""
    section: Any = params
    for name in names:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise InputError(f"{PARAMS}: expected options under {'.'.join(names)}, received {name}: {section!r}")
    return section  # type: ignore[no-any-return]
