"""The verdict of a comparison, in words: who is better, by how much, and whether fine-tuning was worth its time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.heads.training_time import Cost
from pipeline.wording import interval

NO_DIFFERENCE: Final = "no difference shown"
NAMED: Final = 3  # pairs that a verdict spells out


@dataclass(frozen=True)
class Pair:
    """Two models on the same test images; differences are the first's number less the second's.

    Attributes
    ----------
    first, second : str
        Names; the first has the higher accuracy.
    first_alone, second_alone : int
        Images that one gets right and the other wrong.
    accuracy, accuracy_low, accuracy_high : float
        Difference of accuracy, a fraction, and its 95 % interval, corrected for the number of pairs.
    log_loss, log_loss_low, log_loss_high : float
        Difference of log loss, in nats, and its interval, corrected likewise: below 0 the first is better.
    p, p_holm : float
        Of McNemar's test, mid-p; corrected for the number of pairs.
    better : str
        The name of the better one, or ``no difference shown``.
    """

    first: str
    second: str
    first_alone: int
    second_alone: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    p: float
    p_holm: float
    better: str


@dataclass(frozen=True)
class Place:
    """One model in the ranking.

    Attributes
    ----------
    rank : int
        One more than the number of models that are shown to be better.
    name : str
    accuracy, accuracy_low, accuracy_high, log_loss, log_loss_low, log_loss_high : float
        As its evaluation gives them.
    seconds : float or None
        What its training took, if a report says so.
    """

    rank: int
    name: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    seconds: float | None


def overall(ranking: Sequence[Place], pairs: Sequence[Pair]) -> str:
    """Say in one sentence which models the most accurate one is shown to be better than, and which not.

    `ranking` has the most accurate first.
    """
    leader = ranking[0].name
    if not pairs:
        return f"{leader} stands alone: there is nothing to compare it with"
    own = [pair for pair in pairs if pair.first == leader]
    clear = [pair for pair in own if pair.better == leader]
    close = [pair for pair in own if pair.better != leader]
    if not close:
        return f"{leader} is better than {_spelled(clear)}"
    sentence = f"{leader} is not shown to be better than {_spelled(close)}"
    return sentence + (f"; it is better than {_spelled(clear)}" if clear else "")


def _spelled(pairs: Sequence[Pair]) -> str:
    """Name the second of each pair with the difference, the closest few of many."""
    if len(pairs) == 1:
        return f"{pairs[0].second}: {difference(pairs[0])}"
    texts = [f"{pair.second} ({difference(pair)})" for pair in pairs[:NAMED]]
    if len(pairs) > NAMED:
        texts.append(f"{len(pairs) - NAMED:,} more")
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def difference(pair: Pair) -> str:
    """Return a pair's difference of accuracy in words: ``0.3 [-0.8, 1.4] points, p = 0.62``."""
    value, low, high = (100 * number for number in (pair.accuracy, pair.accuracy_low, pair.accuracy_high))
    return f"{interval(value, low, high, 1)} points, {_p(pair.p_holm)}"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def fine_tuning(pairs: Sequence[Pair], started: Mapping[str, str], known: Mapping[str, Cost]) -> list[str]:
    """Say for each fine-tuned model whether it was worth it, if the head that it started from was judged, too.

    `started` has the fine-tuned models, each with the head that it started from; `known` those whose cost is known.
    """
    return [
        _worth(name, head, pair, known)
        for name, head in started.items()
        for pair in pairs
        if {pair.first, pair.second} == {name, head}
    ]


def in_vain(joined: Mapping[str, str], known: Mapping[str, Cost]) -> list[str]:
    """Say of each model that training left as its head was what that training took."""
    return [
        f"fine-tuning {head} was not worth it: no epoch was better on the validation split, so {name} is {head}; it "
        f"took {_seconds(known[name].seconds)}"
        for name, head in joined.items()
        if name in known and known[name].stage == "finetune"
    ]


def _worth(name: str, head: str, pair: Pair, known: Mapping[str, Cost]) -> str:
    if pair.better == NO_DIFFERENCE:
        outcome = f"is not shown to be worth it: {pair.first} is not shown to be better than {pair.second}"
    elif pair.better == name:
        outcome = f"was worth it: {name} is better than {head}"
    else:
        outcome = f"was not worth it: {head} is better than {name}"
    beside = f" beside {_seconds(known[head].seconds)} for the head" if head in known else ""
    took = f"; it took {_seconds(known[name].seconds)}{beside}" if name in known else ""
    return f"fine-tuning {head} {outcome}, {difference(pair)}{took}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
