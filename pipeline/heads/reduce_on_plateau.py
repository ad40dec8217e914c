"""A learning rate that falls where the validation loss no longer does: Keras' ReduceLROnPlateau, without a model.

Equal losses give equal rates: all that it remembers follows from the losses that it has seen, so a run that goes on
from a checkpoint shows it those of the epochs before.
"""

import math

import numpy as np

from pipeline.heads.settings import PlateauSettings


class Plateau:
    """The rate of the next epoch.

    Parameters
    ----------
    settings : PlateauSettings
    rate : float
        Of the first epoch.

    Attributes
    ----------
    rate : float
    """

    def __init__(self, settings: PlateauSettings, rate: float) -> None:
        self.settings, self.rate = settings, rate
        self._best, self._wait, self._cooldown = math.inf, 0, 0

    def see(self, loss: float | None) -> None:
        """Take note of an epoch's validation loss; without one the rate stays."""
        settings = self.settings
        if not settings.plateau_patience or loss is None:
            return
        if self._cooldown:
            self._cooldown, self._wait = self._cooldown - 1, 0
        if loss + settings.plateau_delta < self._best:
            self._best, self._wait = loss, 0
        elif not self._cooldown:
            self._wait += 1
            now = float(np.float32(self.rate))  # as Keras' optimizers keep it
            if self._wait >= settings.plateau_patience and now > np.float32(settings.plateau_floor):
                self.rate = float(np.float32(max(now * settings.plateau_factor, settings.plateau_floor)))
                self._cooldown, self._wait = settings.plateau_cooldown, 0
