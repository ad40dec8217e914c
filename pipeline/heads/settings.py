"""What a user can ask of `train`, of every kind of head, and of `growth`; the defaults stand here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.features.settings import cache_setting
from pipeline.setting import Need, group, setting

Kind = Literal["logistic", "dense", "ridge", "centroid", "knn"]
ClassWeight = Literal["balanced"]
Metric = Literal["cosine", "euclidean"]
Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "selu"]
LOWERED: Final = (Need("plateau_patience"),)
SEARCHED: Final = (Need("search"),)


def log_setting(needs: Sequence[Need]) -> Any:
    """Return the setting that names logs, of what trains in epochs."""
    return setting(
        (),
        "Also write each epoch's losses, accuracies and learning rate where others draw them.",
        metavar="tensorboard:DIR|dvclive[:DIR]",
        needs=tuple(needs),
    )


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    """Where the learning rate falls: as by Keras' callback ReduceLROnPlateau, with its defaults but for being off."""

    plateau_patience: int = setting(
        0, "Lower the learning rate after so many epochs without a lower validation loss; 0 never does.", least=0
    )
    plateau_factor: float = setting(
        0.1, "What the learning rate is multiplied by then.", above=0.0, below=1.0, needs=LOWERED
    )
    plateau_delta: float = setting(
        1e-4, "By how much a validation loss must be lower to count as lower.", least=0.0, needs=LOWERED
    )
    plateau_cooldown: int = setting(0, "For how many epochs after that none is counted again.", least=0, needs=LOWERED)
    plateau_floor: float = setting(0.0, "Below this the learning rate does not fall.", least=0.0, needs=LOWERED)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A kind of head, the parameters of all kinds, and how to search, calibrate and choose a threshold."""

    head: Kind = setting("logistic", "Kind of head.")
    class_weight: ClassWeight | None = setting(None, "Whether rare classes weigh more.", choices=("none", "balanced"))
    seed: int = setting(0, "Seed of all that is random.", least=0)
    C: float = setting(0.01, "logistic: inverse strength of the penalty.", above=0.0)
    l1_ratio: float = setting(0.0, "logistic: share of the L1 penalty; the rest is L2.", least=0.0, most=1.0)
    max_iter: int = setting(1000, "logistic: iterations of the solver at most.", least=1)
    alpha: float = setting(1000.0, "ridge: strength of the penalty.", above=0.0)
    neighbors: int = setting(5, "knn: how many of the nearest training rows vote.", least=1)
    metric: Metric = setting("cosine", "knn: distance between standardised features.")
    hidden: tuple[int, ...] = setting((256,), "dense: widths of the hidden layers, as in 256,128, or none.")
    activation: Activation = setting("relu", "dense: activation of the hidden layers.", needs=(Need("hidden"),))
    dropout: float = setting(
        0.5,
        "dense: fraction dropped before each layer but the first; of the features if there are no hidden layers.",
        least=0.0,
        below=1.0,
    )
    l1: float = setting(0.0, "dense: L1 penalty on kernels.", least=0.0)
    l2: float = setting(0.0, "dense: L2 penalty on kernels.", least=0.0)
    optimizer: Literal["adam", "rmsprop", "sgd"] = setting("adam", "dense: optimizer.")
    learning_rate: float = setting(0.001, "dense: learning rate of the optimizer.", above=0.0)
    batch_size: int = setting(32, "dense: rows per step.", least=1)
    epochs: int = setting(50, "dense: most epochs.", least=1)
    patience: int = setting(
        10,
        "dense: stop after so many epochs without a lower validation loss and keep the best weights; 0 never stops.",
        least=0,
    )
    plateau: PlateauSettings = group(PlateauSettings, needs=(Need("head", ("dense",)),))
    standardize: Literal["standard", "none"] = setting(
        "standard", "dense: bring each feature to mean 0 and deviation 1, or leave it."
    )
    search: bool = setting(False, "Choose those parameters of the head that are not given, by trying a grid of values.")
    folds: int = setting(
        0,
        "search: judge by cross-validation in so many folds of the training split; 0: by the validation split.",
        least=0,
        never=1,
        needs=SEARCHED,
    )
    trials: int = setting(
        66, "search: most candidates; of a larger grid so many are drawn at random.", least=2, needs=SEARCHED
    )
    jobs: int = setting(0, "search: folds fitted at a time; 0: one per core.", least=0, needs=SEARCHED)
    calibrate: Literal["temperature"] | None = setting(
        "temperature",
        "Fit a temperature on the validation split, so that of the answers given with 0.9 nine in ten are right.",
        choices=("temperature", "none"),
    )
    precision_at_least: float | None = setting(
        None,
        "With two classes: choose the threshold that reaches this precision on the validation split.",
        above=0.0,
        most=1.0,
    )
    recall_at_least: float | None = setting(
        None,
        "With two classes: choose the threshold that reaches this recall on the validation split.",
        above=0.0,
        most=1.0,
        needs=(Need("precision_at_least", (None,)),),
    )
    positive: str | None = setting(
        None,
        "The class whose precision or recall is meant.",
        unset="the second by name",
        needs=(Need("precision_at_least"), Need("recall_at_least")),
    )
    log: tuple[str, ...] = log_setting((Need("head", ("dense",)),))
    with_weights: bool = setting(
        False, "Put the weights of the base into the head's folder, so that it can be used where they are not."
    )
    cache: Path = cache_setting(needs=(Need("with_weights"),))
    memory: int = setting(
        4_000_000_000, "Memory for the features; larger ones are read in blocks, as often as needed.", unit="bytes"
    )


@dataclass(frozen=True, kw_only=True)
class GrowthSettings:
    """On how many parts of the training photos a logistic head is fitted, in how many orders, and what judges it."""

    parts: int = setting(8, "How many sizes of the training split to fit.", least=3)
    seeds: int = setting(5, "How many random orders to take the images in.", least=2)
    folds: int | None = setting(
        None,
        "Folds of the cross-validation that judges; 0: the validation split judges.",
        least=0,
        unset="0 from 200 validation images on, else 5",
    )
    C: float = setting(TrainSettings.C, "Inverse strength of the penalty of the logistic head.", above=0.0)
