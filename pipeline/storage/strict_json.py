"""JSON, taken more strictly than by `json`, so that what passes can be computed with, printed and written again.

No key twice, no NaN, no infinity, no whole number beyond 64 bits, no deep nesting, and nothing but UTF-8.
"""

import json
import math
from collections import Counter
from typing import Any, Final

LARGEST: Final = 2**24  # bytes: of what the steps write, nothing comes near
DEEPEST: Final = 64  # objects and lists within each other


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
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"{next(name for name, count in counts.items() if count > 1)!r} twice")
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
