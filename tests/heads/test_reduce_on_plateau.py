"""The learning rate that falls on a plateau, beside Keras' own callback."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.heads import registry, store
from pipeline.heads.reduce_on_plateau import Plateau
from pipeline.heads.settings import PlateauSettings
from tests.heads.test_heads import fitted, make, record

RATE = 0.003
FLAT = [1.0, 0.9] + [0.9] * 12


@pytest.mark.parametrize(
    "chosen",
    [
        PlateauSettings(plateau_patience=2),
        PlateauSettings(plateau_patience=1, plateau_factor=0.5, plateau_delta=0.0),
        PlateauSettings(plateau_patience=2, plateau_factor=0.2, plateau_cooldown=3),
        PlateauSettings(plateau_patience=1, plateau_factor=0.3, plateau_floor=1e-4, plateau_delta=0.05),
    ],
)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_rates_are_those_of_keras_callback(chosen: PlateauSettings, seed: int | None) -> None:
    import keras

    losses = FLAT if seed is None else np.random.default_rng(seed).choice([0.5, 0.50004, 0.6, 0.7], 40).tolist()
    optimizer = keras.optimizers.SGD(RATE)
    callback = keras.callbacks.ReduceLROnPlateau(
        factor=chosen.plateau_factor,
        patience=chosen.plateau_patience,
        min_delta=chosen.plateau_delta,
        cooldown=chosen.plateau_cooldown,
        min_lr=chosen.plateau_floor,
        mode="min",
    )
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_begin()
    ours, theirs, seen = [], [], Plateau(chosen, RATE)
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        seen.see(loss)
        ours.append(float(np.float32(seen.rate)))
        theirs.append(float(np.asarray(optimizer.learning_rate)))
    assert ours == theirs
    assert min(ours) < RATE * 0.9


def test_without_a_patience_or_a_loss_the_rate_stays() -> None:
    for seen, losses in (
        (Plateau(PlateauSettings(), RATE), FLAT),
        (Plateau(PlateauSettings(plateau_patience=1), RATE), [None] * 9),
    ):
        for loss in losses:
            seen.see(loss)
        assert seen.rate == RATE


def test_a_head_keeps_where_its_rate_falls_and_says_nothing_of_a_rate_that_does_not(tmp_path: Path) -> None:
    head = fitted("dense", 2)
    store.save(head, tmp_path / "plain", record(2))
    assert "plateau" not in store.load(tmp_path / "plain")[1]["params"]
    watching = PlateauSettings(plateau_patience=3, plateau_floor=1e-6)
    again = replace(head, plateau=watching)
    again.arrays_, again.history_ = head.arrays_, head.history_
    store.save(again, tmp_path / "watching", record(2))
    assert store.load(tmp_path / "watching")[0].plateau == watching
    known = registry.described(again)
    for plateau in (3, (), {"plateau_patience": 3}, known["plateau"] | {"more": 1}):
        assert registry.unfitted("dense", known | {"plateau": plateau}) is None
    assert registry.unfitted("logistic", registry.described(make("logistic")) | {"plateau": known["plateau"]}) is None


def test_a_dense_head_learns_at_the_lowered_rate() -> None:
    """A rate of almost nothing after the second epoch leaves the weights where they were."""
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(60, 4)), np.arange(60) % 2
    held = X[:20], y[:20]
    stopping = PlateauSettings(plateau_patience=1, plateau_factor=1e-9, plateau_delta=10.0)  # nothing is lower enough
    chosen: dict[str, Any] = {"epochs": 4, "hidden": (), "dropout": 0.0, "patience": 0, "learning_rate": 0.1}
    losses = {}
    for name, plateau in (("falling", stopping), ("constant", PlateauSettings())):
        head = replace(make("dense", **chosen), plateau=plateau).fit(X, y, held)
        losses[name] = [row["val_loss"] for row in head.history_]
    assert losses["falling"][:2] == losses["constant"][:2]
    assert losses["falling"][2:] == pytest.approx([losses["falling"][1]] * 2, rel=1e-6)
    assert losses["constant"][3] != pytest.approx(losses["constant"][1], rel=1e-3)
    with pytest.raises(InputError, match="plateau_patience"):
        replace(make("dense", **chosen), plateau=stopping).fit(X, y, None)
