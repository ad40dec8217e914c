"""The page itself: one file that loads nothing, whose style and script are admitted by their hash, and nothing else."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from pipeline.report.thumbnails import Atlas, address
from pipeline.wording import counted, interval

TEMPLATES: Final = Path(__file__).parent / "templates"


def data_block(data: Mapping[str, Any]) -> Markup:
    """Return data for the page's script as JSON that can stand within ``<script>``: no character of it ends one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704, no markup is left in it


def sheets(atlas: Atlas) -> Markup:
    """Return the sheets of thumbnails as rules of a style sheet, a class each, ``.sheet0`` and so on."""
    rules = (f".sheet{place}{{background-image:url({address(sheet)})}}" for place, sheet in enumerate(atlas.sheets))
    return Markup("\n".join(rules))  # noqa: S704, base64


def render(context: Mapping[str, Any], data: Mapping[str, Any], pictures: Markup) -> str:
    """Return the page: `context` is what templates show, `data` what the script knows, `pictures` are of `sheets`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"counted": counted, "interval": interval}
    style, script = (Markup(_text(name)) for name in ("page.css", "page.js"))  # noqa: S704, our own files
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"{_hash(style)} {_hash(pictures)}",
        "script-src": _hash(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    written = "; ".join(f"{name} {value}" for name, value in policy.items())
    shown = {"policy": written, "style": style, "script": script, "pictures": pictures, "data": data_block(data)}
    return environment.get_template("page.html").render(**context, **shown)


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return the source expression of the Content Security Policy, level 2, that admits one inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
