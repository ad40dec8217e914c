"""What a user chooses of fine-tuning, and whether it belongs together."""

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import InputError
from pipeline.heads.parameter_checks import require_choice, require_number, require_whole
from pipeline.heads.settings import ClassWeight
from pipeline.photos.settings import Policy

Optimizer = Literal["adam", "rmsprop", "sgd"]
BatchNorm = Literal["inference", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chooses, all of which can change the result.

    Attributes
    ----------
    epochs : int
        Passes over the training images at most; with 0 trunk and head are only joined.
    cut : str
        What lies above it trains: ``block-1``, another word of the backbone's table, or a layer. ``image`` is
        everything.
    new_conv : tuple of int
        Widths of fresh convolutions that take the place of the base's layers above the cut; the head then starts anew,
        since its features are others. Empty keeps those layers.
    freeze : tuple of str
        Layers above the cut that stay as they are.
    new_head : bool
        Whether the head starts from random weights; its standardisation stays.
    optimizer : {"adam", "rmsprop", "sgd"}
        With Keras' settings besides the two that follow.
    learning_rate : float
        Of the head, at its highest.
    schedule : {"constant", "cosine"}
        What becomes of the rate after the warm-up; cosine ends at 0 with the last of `epochs`.
    warmup_epochs : float
        In which the rate rises linearly from 0.
    layer_decay : float
        Each block has this share of the rate of the block above it; 1 is off.
    weight_decay : float
        Share of a kernel, times the rate, taken away in each step.
    label_smoothing : float
        Share of each target that is spread evenly over the classes.
    batch_norm : {"inference", "train"}
        Whether batch normalisation above the cut uses the statistics it came with, or those of each batch, and learns.
        Dropout inside the base follows suit.
    batch_size : int
    patience : int
        Stop after so many epochs without a lower validation loss, and go back to the weights of the lowest. 0 is off.
    class_weight : "balanced" or None
        Whether rare classes weigh more in the losses.
    seed : int
    deterministic : bool
        Whether the same run gives the same bits, on one machine; it takes up to twice as long.
    live_augment : bool
        Whether pixels are read anew in each epoch, and changed at random.
    policy : Policy
        What live augmentation may do to an image.
    """

    epochs: int
    cut: str
    new_conv: tuple[int, ...]
    freeze: tuple[str, ...]
    new_head: bool
    optimizer: Optimizer
    learning_rate: float
    schedule: Literal["constant", "cosine"]
    warmup_epochs: float
    layer_decay: float
    weight_decay: float
    label_smoothing: float
    batch_norm: BatchNorm
    batch_size: int
    patience: int
    class_weight: ClassWeight | None
    seed: int
    deterministic: bool
    live_augment: bool
    policy: Policy

    def check(self) -> None:
        """Raise InputError, naming the parameter, unless all are in their ranges and belong together."""
        require_whole("epochs", self.epochs, least=0)
        for width in self.new_conv:
            require_whole("new_conv", width, least=1)
        require_choice("optimizer", self.optimizer, ("adam", "rmsprop", "sgd"))
        require_number("learning_rate", self.learning_rate, least=0.0, open_ended=True)
        require_choice("schedule", self.schedule, ("constant", "cosine"))
        require_number("warmup_epochs", self.warmup_epochs, least=0.0)
        require_number("layer_decay", self.layer_decay, least=0.0, most=1.0)
        require_number("weight_decay", self.weight_decay, least=0.0)
        require_number("label_smoothing", self.label_smoothing, least=0.0, most=math.nextafter(1.0, 0.0))
        require_choice("batch_norm", self.batch_norm, ("inference", "train"))
        require_whole("batch_size", self.batch_size, least=1)
        require_whole("patience", self.patience, least=0)
        require_choice("class_weight", self.class_weight, (None, "balanced"))
        require_whole("seed", self.seed, least=0)
        self.policy.check()
        if not self.policy.is_empty and not self.from_pixels:
            raise InputError(
                "--flip, --rotation, --zoom, --shift, --brightness, --contrast: expected with --live-augment or --cut "
                "image, received neither; cached views are made by `headstart extract --views`"
            )
        for option in ("new_head", "new_conv"):
            if getattr(self, option) and not self.epochs:
                raise InputError(
                    f"--{option.replace('_', '-')}: expected with --epochs of 1 or more, received 0: what is new would "
                    "stay random"
                )
        if self.new_conv and self.cut == "image":
            raise InputError("--new-conv: expected with a --cut at a layer whose activations it takes, received image")
        if self.warmup_epochs > self.epochs:
            raise InputError(
                f"--warmup-epochs: expected at most the {self.epochs} of --epochs, received {self.warmup_epochs}"
            )

    @property
    def from_pixels(self) -> bool:
        """Whether pixels are read anew in each epoch, instead of activations from the cache."""
        return self.live_augment or self.cut == "image"

    def rate(self, step: int, steps_an_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        warm = self.warmup_epochs * steps_an_epoch
        if step < warm:
            return self.learning_rate * (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return self.learning_rate
        whole = max(1.0, self.epochs * steps_an_epoch - warm)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / whole))
