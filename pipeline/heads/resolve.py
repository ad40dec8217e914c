"""Settings to objects: the head, not fitted yet, how to search, calibrate and choose a threshold."""

import os
from collections.abc import Collection
from dataclasses import dataclass, fields

from pipeline.errors import SettingError
from pipeline.heads import registry
from pipeline.heads.calibration import thresholds
from pipeline.heads.calibration.calibrate import Method
from pipeline.heads.head import Head
from pipeline.heads.selection import grid_search
from pipeline.heads.settings import TrainSettings
from pipeline.setting import require_effect


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings, resolved to objects.

    Attributes
    ----------
    head : Head
        Not fitted.
    search : Search or None
        Which parameters of the head to choose, and how; None keeps all of them.
    calibrate : "temperature" or None
        How the probabilities are calibrated, on the validation split or out of fold: the rows that a search and early
        stopping have chosen on. With fewer than `out_of_fold.FEWEST_CALIBRATED` it is not done, and a warning says so.
    wish : Wish or None
        The threshold to choose on the same rows, on calibrated probabilities; None gives an image its most probable
        class.
    memory : int or None
        Bytes that the features may take. Where they would take more, they are read from the file in blocks, as often
        as the head needs them; the head is the same, up to rounding. None is without a bound.
    """

    head: Head
    search: grid_search.Search | None = None
    calibrate: Method | None = None
    wish: thresholds.Wish | None = None
    memory: int | None = None


def resolve(settings: TrainSettings, given: Collection[str] = ()) -> Training:
    """Return the head, the search and the threshold that settings mean; SettingError if one has no effect."""
    _refuse_what_has_no_effect(settings, given)
    search = wish = None
    if settings.search:
        jobs = settings.jobs or os.cpu_count() or 1
        search = grid_search.Search(settings.folds, settings.trials, frozenset(given), jobs, settings.seed)
    if settings.precision_at_least is not None:
        wish = thresholds.Wish("precision", settings.precision_at_least, settings.positive)
    if settings.recall_at_least is not None:
        wish = thresholds.Wish("recall", settings.recall_at_least, settings.positive)
    return Training(
        head=unfitted(settings), search=search, calibrate=settings.calibrate, wish=wish, memory=settings.memory
    )


def unfitted(settings: TrainSettings) -> Head:
    """Return the head that settings name, with its parameters, not fitted."""
    parameters = {name: getattr(settings, name) for name in registry.parameters_of(settings.head)}
    return registry.HEADS[settings.head](**parameters)


def _refuse_what_has_no_effect(settings: TrainSettings, given: Collection[str]) -> None:
    """Refuse what this kind of head does not take, which the registry knows, and what lacks another setting."""
    own = set(registry.parameters_of(settings.head)) | ({"seed"} if settings.search else set())
    every = {name for kind in registry.HEADS for name in registry.parameters_of(kind)}
    for name in (field.name for field in fields(TrainSettings) if field.name in given):
        if name in every - own:
            owners = [f"`head={kind!r}`" for kind in registry.HEADS if name in registry.parameters_of(kind)]
            raise SettingError.of(name, f"with {' or '.join(owners)}", f"`head={settings.head!r}`")
    require_effect(settings, given)
