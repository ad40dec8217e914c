"""Scales of axes: what is even along one, where it begins and ends, and the round numbers at it.

A scale knows nothing of how it is drawn: the PNG files and the page's charts take the same ones.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "log", "odds"]

# Where accuracies crowd below 1 an axis is that of the odds, p : 1 - p, and these are its round numbers.
_NEAR_ZERO = tuple(digit * 10.0**-power for power in range(6, 1, -1) for digit in (1, 2, 5))
_ROUND_SHARES = (
    *_NEAR_ZERO,
    *(0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
    *(round(1 - share, 12) for share in reversed(_NEAR_ZERO)),
)
_FEWEST_TICKS = 3


@dataclass(frozen=True)
class Scale:
    """Which numbers an axis shows, and how.

    Attributes
    ----------
    low, high : float
        The numbers at both ends.
    kind : {"linear", "log", "odds"}
        What is even along the axis: the number, its logarithm, or the logarithm of p / (1 - p).
    zero, one : float or None
        Where 0 and 1, which have no place on a scale of odds, are drawn instead.
    """

    low: float
    high: float
    kind: Kind = "linear"
    zero: float | None = None
    one: float | None = None

    def share(self, value: float) -> float:
        """Return how far along the axis a number stands, from 0 to 1; those beyond an end are put there."""
        low, high = self._even(self.low), self._even(self.high)
        return (self._even(self.clip(value)) - low) / (high - low) if high > low else 0.5

    def clip(self, value: float) -> float:
        """Return the number that is drawn in place of one that may lie beyond an end."""
        least = self.low if self.zero is None else self.zero
        most = self.high if self.one is None else self.one
        return min(max(value, least), most)

    def _even(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return math.log(value / (1 - value)) if self.kind == "odds" else value

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most so many round numbers between the ends."""
        if self.kind == "log":
            return _log_ticks(self.low, self.high, most)
        if self.kind == "odds":
            shares = [share for share in _ROUND_SHARES if self.clip(share) == share and self.low <= share <= self.high]
            kept = self._thinned(shares, most)
            return kept if len(kept) >= _FEWEST_TICKS else _round_numbers(self.low, self.high, most)
        return _round_numbers(self.low, self.high, most)

    def named(self, most: int = 6) -> list[tuple[float, str]]:
        """Return the ticks with what is written at them, 0 and 1 of a scale of odds among them."""
        ends = [(place, name) for place, name in ((self.zero, "0"), (self.one, "1")) if place is not None]
        apart = [
            tick
            for tick in self.ticks(most)
            if all(abs(self.share(tick) - self.share(place)) >= 1 / (most + 1) for place, _ in ends)
        ]
        return [(tick, number(tick)) for tick in apart] + ends

    def _thinned(self, values: list[float], most: int) -> list[float]:
        """Drop round numbers that lie closer to the one kept before than an even share of the axis allows."""
        kept: list[float] = []
        for value in values:
            if not kept or self.share(value) - self.share(kept[-1]) >= 1 / (most + 1):
                kept.append(value)
        return kept


def around(values: Iterable[float], *, margin: float = 0.06, most: float = math.inf) -> Scale:
    """Return a scale from a little below the least number to a little above the largest, or to `most`; of none, 0…1."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Scale(0.0, 1.0)
    low, high = min(known), max(known)
    room = (high - low or abs(high) or 1.0) * margin
    return Scale(low - room, min(high + room, most))


def around_or_log(values: Iterable[float], *, ratio: float) -> Scale:
    """Return that of `around`, or one of logarithms where the largest number is more than `ratio` times the least."""
    known = [value for value in values if math.isfinite(value)]
    if known and min(known) > 0 and max(known) > ratio * min(known):
        return Scale(min(known) / 1.3, max(known) * 1.3, "log")
    return around(known)


def odds(values: Iterable[float]) -> Scale:
    """Return a scale of odds that shows these shares, on which 0.99 is as far from 0.9 as 0.9 from 0.5."""
    shares = [share for share in values if math.isfinite(share)]
    inside = [share for share in shares if 0 < share < 1] or [0.25, 0.75]
    low, high = min(inside), max(inside)
    zero = low / 2 if any(share <= 0 for share in shares) else None
    one = (1 + high) / 2 if any(share >= 1 for share in shares) else None
    low, high = low if zero is None else zero, high if one is None else one
    return Scale(low / (low + 1.25 * (1 - low)), 1.25 * high / (1.25 * high + 1 - high), "odds", zero, one)


def number(value: float) -> str:
    """Return a number for a tick or a caption: plain, with thousands set off."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    text = f"{value:,.6f}" if 0.999 < value < 1 else f"{value:,.4f}"
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) <= most:
            return found or [low, high]
    return found[:: -(-len(found) // most)]
