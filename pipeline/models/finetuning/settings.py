"""What a user can ask of `finetune`, and whether it belongs together; the defaults stand here and nowhere else."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.backbones.settings import EngineName, engine_setting
from pipeline.errors import InputError
from pipeline.features.settings import cache_setting
from pipeline.heads.settings import ClassWeight, PlateauSettings, log_setting
from pipeline.models.settings import weights_setting
from pipeline.photos.settings import Policy
from pipeline.setting import Need, check, group, setting

Optimizer = Literal["adam", "rmsprop", "sgd"]
BatchNorm = Literal["inference", "train"]
training = partial(setting, needs=(Need("epochs"),))


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """What of the network trains, and how: all that can change the result.

    With 0 epochs trunk and head are only joined. New convolutions take the place of the base's layers above the cut,
    and a new head then starts from random weights, while its standardisation stays. Batch normalisation that trains
    uses the statistics of each batch, and learns; dropout inside the base follows suit. The schedule ``cosine`` ends at
    0 with the last of `epochs`.
    """

    epochs: int = setting(0, "Most epochs; 0 only joins trunk and head.", least=0)
    cut: str = training(
        "block-1",
        "Train the layers above this cut; below it, features are computed once and cached. image trains all.",
    )
    new_conv: tuple[int, ...] = training(
        (), "Put new convolutions of these widths above the cut, as in 256,256, in place of the base's layers."
    )
    freeze: tuple[str, ...] = training((), "Layers above the cut that are not trained, as in A,B.")
    new_head: bool = training(False, "Start from a random head instead of the trained one.")
    optimizer: Optimizer = training("adam", "Optimizer; besides learning rate and weight decay it has Keras' defaults.")
    learning_rate: float = training(1e-5, "Highest learning rate of the head.", above=0.0)
    schedule: Literal["constant", "cosine"] = training("constant", "How the learning rate goes on after the warm-up.")
    warmup_epochs: float = training(0.0, "Epochs in which the learning rate rises from 0.", least=0.0)
    layer_decay: float = training(
        1.0, "Learning rate of a block, as a fraction of that of the block above it.", least=0.0, most=1.0
    )
    weight_decay: float = training(0.0, "Weight decay of the kernels, multiplied by the learning rate.", least=0.0)
    label_smoothing: float = training(
        0.0, "Share of each target that is spread over the classes.", least=0.0, below=1.0
    )
    batch_norm: BatchNorm = training(
        "inference", "Batch normalisation above the cut: by the base's own statistics, or by those of each batch."
    )
    batch_size: int = training(32, "Images per step.", least=1)
    patience: int = training(
        3,
        "Stop after so many epochs without a lower validation loss and keep the best weights; 0 never stops.",
        least=0,
    )
    plateau: PlateauSettings = group(PlateauSettings, needs=(Need("epochs"),))
    class_weight: ClassWeight | None = training(None, "Whether rare classes weigh more.", choices=("none", "balanced"))
    seed: int = training(0, "Seed of all that is random.", least=0)
    deterministic: bool = training(False, "Give the same bits again on this machine; up to twice as slow.")
    live_augment: bool = training(False, "Read the images anew in each epoch, as copies changed at random as below.")
    policy: Policy = group(Policy, needs=(Need("live_augment"), Need("cut", ("image",))))

    def check(self) -> None:
        """Raise InputError, naming the parameter, unless all are in their ranges and belong together."""
        check(self)
        if not all(isinstance(width, int) and width > 0 for width in self.new_conv):
            raise InputError.of("new_conv", "whole numbers of at least 1", self.new_conv)
        if self.new_conv and self.cut == "image":
            raise InputError.of("new_conv", "a `cut` at a layer whose activations it takes", "image")
        if self.plateau.plateau_patience and self.schedule != "constant":
            raise InputError.of("plateau_patience", "with the `schedule` constant", self.schedule)
        if self.warmup_epochs > self.epochs:
            raise InputError.of("warmup_epochs", f"at most the {self.epochs} of `epochs`", self.warmup_epochs)

    @property
    def starts_new(self) -> bool:
        """Whether some of what trains starts from random weights."""
        return bool(self.new_head or self.new_conv)

    @property
    def from_pixels(self) -> bool:
        """Whether pixels are read anew in each epoch, instead of activations from the cache."""
        return self.live_augment or self.cut == "image"

    def recorded(self) -> dict[str, Any]:
        """Return them as JSON; those of a plateau only where one is watched for, as before there were any."""
        found = asdict(self)
        if self.plateau == PlateauSettings():
            del found["plateau"]
        return found

    def rate(self, step: int, steps_an_epoch: int, *, highest: float | None = None) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs; `highest` is what a plateau left."""
        highest = self.learning_rate if highest is None else highest
        warm = self.warmup_epochs * steps_an_epoch
        if step < warm:
            return highest * (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return highest
        whole = max(1.0, self.epochs * steps_an_epoch - warm)
        return highest * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / whole))


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What trains, how the network is run, and where activations and checkpoints are kept."""

    head: str | None = setting(None, "The kind that the head must be.", unset="any")
    tuning: TuningSettings = group(TuningSettings)
    log: tuple[str, ...] = log_setting((Need("epochs"),))
    weights: str | None = weights_setting()
    engine: EngineName = engine_setting()
    cache: Path = cache_setting()
