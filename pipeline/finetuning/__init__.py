"""Manifest, features and head to a model: trunk and head joined and, if asked for, the layers above a cut trained on.

What lies below the cut is frozen, so it is run once over every image, and its activations are cached like any row.
Training from them is the same function as training the whole network with its lower part frozen. With live
augmentation, or with the cut at the image itself, pixels are read anew in each epoch.

After each epoch a checkpoint goes to ``<cache>/finetuning/<digest of all that matters>``; a run that was killed goes on
from there and ends as if it had not been. The folder is removed at the end.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import assembly, backbones, extraction, feeding, frameworks, heads, manifest, spec, views, writers
from pipeline.assembly import LayerState
from pipeline.engines.tensorflow import computing_in
from pipeline.errors import ArtefactError, BusyError, InputError, StorageError
from pipeline.features import Features
from pipeline.files import published
from pipeline.heads.parameters import require_choice, require_number, require_whole
from pipeline.heads.rows import ClassWeight, class_weights
from pipeline.manifest import Manifest
from pipeline.tuner import BatchNorm, FrozenWeightsError, Optimizer, Tuner, distances

CHECKPOINT_VERSION: Final = 1
CHECKPOINT: Final = "checkpoint.npz"

Progress = Callable[[int, int], None]
Row = dict[str, float]


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
    policy: views.Policy

    def check(self) -> None:
        """Raise InputError, naming the parameter, unless all are in their ranges and belong together."""
        require_whole("epochs", self.epochs, least=0)
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
                "--live-augment: expected with --flip, --rotation, --zoom, --shift, --brightness or --contrast, received "
                "neither it nor --cut image; cached views are made by `headstart extract --views`"
            )
        if self.new_head and not self.epochs:
            raise InputError("--new-head: expected --epochs of 1 or more, received 0: the head would stay random")

    @property
    def from_pixels(self) -> bool:
        """Whether pixels are read anew in each epoch, instead of activations from the cache."""
        return self.live_augment or self.cut == "image"


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    layers : list of LayerState
        What is frozen and what trained, from below.
    history : list of dict
        A row an epoch: epoch, loss, accuracy and, with validation images, val_loss, val_accuracy. The training side is
        the mean over the epoch's batches, while the weights move.
    best_epoch : int
        Whose weights the model has; 0 if there was none.
    resumed_after : int
        The epoch whose checkpoint the run went on from; 0 if it started afresh.
    seconds : float
        Of the epochs computed now.
    warnings : list of str
        What the user should know, one line each.
    """

    layers: list[LayerState]
    history: list[Row]
    best_epoch: int
    resumed_after: int
    seconds: float
    warnings: list[str]

    @property
    def trained(self) -> int:
        """How many numbers train."""
        return sum(layer.trained for layer in self.layers)

    @property
    def frozen(self) -> int:
        """How many do not."""
        return sum(layer.parameters for layer in self.layers) - self.trained


@dataclass
class _State:
    """All that a killed run needs to go on as if nothing had happened, besides its settings."""

    weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    best: list[NDArray[Any]]
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        return len(self.history)


@dataclass(frozen=True)
class _Split:
    """Rows of one split with the codes and the weights of their classes."""

    source: feeding.Source
    codes: NDArray[np.int64]
    weights: NDArray[np.float32]


def finetune(
    images_root: Path,
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    model_dir: Path,
    *,
    settings: Settings,
    weights: str | None,
    engine: str,
    cache: Path,
    extracting: Progress,
    progress: Progress,
    told: Callable[[Row], None],
) -> Summary:
    """Join trunk and head into a model, having trained what lies above a cut for some epochs.

    Identical files count once. The test split is not read. Where the features hold several views of each image, so do
    the cached activations, and each epoch trains on the next view; validation is on the image itself.

    Parameters
    ----------
    images_root, manifest_path : Path
        As for `pipeline.extraction.extract`.
    features_path, head_dir : Path
        What the head was trained on, and the head.
    model_dir : Path
        Where `pipeline.assembly.save` writes.
    settings : Settings
    weights : str or None
        The base's weights, as in `pipeline.extraction.Settings`, checked by digest. None: ``none`` if the head was
        trained on a random base, else ``imagenet``.
    engine : {"auto", "tensorflow", "openvino"}
        What runs the network below the cut.
    cache : Path
        The cache folder.
    extracting : callable
        Called with (images done, images) while activations are computed.
    progress : callable
        Called with (batches done, batches of all epochs) while the network trains.
    told : callable
        Called with each epoch's row of the history.

    Raises
    ------
    InputError
        A setting, a layer or an image is not as expected; early stopping has nothing to watch; the loss became
        infinite or NaN.
    SpecError
        Features, weights and head do not belong together.
    ArtefactError
        The manifest has other classes than the head, or a file is damaged.
    BusyError
        Another process trains the same model.
    FrozenWeightsError
        Frozen weights have changed.
    """
    settings.check()
    table = manifest.read(manifest_path)
    head, record = heads.load(head_dir)
    with Features(features_path) as features:
        warnings = spec.require_compatible(record["spec"], features.spec)
        seen = features.views
    chosen = _settings(head_dir, record["spec"], weights)
    plan = extraction.plan(chosen, engine=engine)
    warnings += [line for line in spec.require_compatible(record["spec"], plan.spec) if line not in warnings]
    if settings.new_head:
        _start_anew(head, len(record["classes"]), settings.seed)
    with computing_in("float32"):
        base = backbones.load(plan.backbone, size=plan.size, alpha=chosen.alpha, weights=plan.weights)
        trunk = backbones.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling=plan.spec["pooling"])
        trunk = assembly.flat(trunk)
        top = assembly.head_network(head, len(record["classes"]))
        lower, tuner = _tuner(plan, base, trunk, top, settings, len(record["classes"]))
    if not settings.epochs:
        summary = Summary([_untrained(layer) for layer in tuner.table()], [], 0, 0, 0.0, warnings)
    else:
        _require_same_classes(table, record["classes"], manifest_path, head_dir)
        activations = extraction.plan(_below(chosen, settings.cut), engine=engine)
        with _job(cache, table, settings, activations.spec, head_dir, record["classes"], seen) as folder:
            fed = _open(images_root, table, activations, settings, seen, folder, cache, extracting)
            with fed as (train, val):
                data = _labelled(train, table, "train", record["classes"], settings.class_weight)
                held = _labelled(val, table, "val", record["classes"], settings.class_weight, like=data)
                summary = _train(tuner, data, held, settings, folder / CHECKPOINT, progress, told, warnings)
        head = assembly.updated_head(head, top)
        record = {name: value for name, value in record.items() if name not in ("train", "val")}
    assembly.save(
        model_dir,
        assembly.join(trunk, top),
        head,
        record,
        document={
            "finetuning": asdict(settings) if settings.epochs else None,
            "best_epoch": summary.best_epoch,
            "head": hashlib.sha256((head_dir / heads.HEAD_FILE).read_bytes()).hexdigest(),
            "made_with": _versions(),
        },
        layers=summary.layers,
        history=summary.history,
    )
    return summary


def _settings(head_dir: Path, trained: spec.Spec, weights: str | None) -> extraction.Settings:
    """Return the settings under which the head's features were made, but in float32, in which networks train."""
    try:
        seed = trained["weights"].get("seed")
        return extraction.Settings(
            backbone=trained["backbone"]["name"],
            alpha=trained["backbone"]["alpha"],
            weights=weights or ("imagenet" if seed is None else "none"),
            seed=seed or 0,
            size=trained["size"],
            resize=trained["resize"],
            cut=trained["cut"],
            pooling=trained["pooling"],
            precision="float32",
            dtype=trained["dtype"],
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ArtefactError(f"{head_dir}: its spec does not say how the features were made: {error!r}") from error


def _below(chosen: extraction.Settings, cut: str) -> extraction.Settings:
    return extraction.Settings(**(asdict(chosen) | {"cut": cut, "pooling": "none", "dtype": "float32"}))


def _start_anew(head: heads.Head, n_classes: int, seed: int) -> None:
    """Give a head random kernels, after Glorot and Bengio (2010), and no bias; its standardisation stays."""
    draw = np.random.default_rng(seed)
    for name, slot in head.layout(len(head.arrays_["mean_"]), n_classes).items():
        if slot.trainable:
            limit = math.sqrt(6.0 / sum(slot.shape)) if len(slot.shape) == 2 else 0.0
            head.arrays_[name] = draw.uniform(-limit, limit, slot.shape).astype(slot.dtype)


def _tuner(
    plan: extraction.Plan, base: Any, trunk: Any, top: Any, settings: Settings, n_classes: int
) -> tuple[Any, Tuner]:
    """Split the network at the cut of fine-tuning; with nothing to train, at the top of the trunk."""
    cut = backbones.resolve_cut(plan.backbone, settings.cut if settings.epochs else plan.spec["cut"])
    lower = backbones.trunk(plan.backbone, base, cut=cut, pooling="none")
    tuner = Tuner(
        trunk,
        lower if settings.from_pixels else None,
        backbones.tail(plan.backbone, trunk, cut=cut),
        top,
        freeze=settings.freeze,
        distance=distances(plan.backbone, trunk),
        n_classes=n_classes,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        layer_decay=settings.layer_decay,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        batch_norm=settings.batch_norm,
        seed=settings.seed,
    )
    return lower, tuner


def _untrained(layer: LayerState) -> LayerState:
    return LayerState(layer.name, layer.kind, layer.place, layer.parameters, 0)


def _require_same_classes(table: Manifest, classes: list[str], manifest_path: Path, head_dir: Path) -> None:
    if table.classes != sorted(classes):
        raise ArtefactError(
            f"{head_dir}: expected a head for the {len(table.classes)} classes of {manifest_path}, received one for "
            f"{len(classes)}, of which {len(set(classes) & set(table.classes))} are among them; train the head again"
        )


@contextlib.contextmanager
def _job(
    cache: Path,
    table: Manifest,
    settings: Settings,
    below: spec.Spec,
    head_dir: Path,
    classes: list[str],
    seen: dict[str, Any] | None,
) -> Iterator[Path]:
    """Hold the folder of this very run, and remove it once the run is over; a failed or killed one leaves it."""
    rows = hashlib.sha256()
    for split in ("train", "val"):
        part = table.distinct(split)
        rows.update(json.dumps([split, part.labels]).encode() + part.digests.tobytes())
    matters = {
        "version": CHECKPOINT_VERSION,
        "settings": asdict(settings),
        "spec": below,
        "head": hashlib.sha256((head_dir / heads.HEAD_FILE).read_bytes()).hexdigest(),
        "classes": classes,
        "views": seen,
        "rows": rows.hexdigest(),
        "made_with": _versions(),
    }
    folder = cache / "finetuning" / spec.identity(matters)
    try:
        with contextlib.ExitStack() as entered:
            with writers.mutex(folder):
                others = writers.cleared(folder)
                if others:
                    raise BusyError(f"{folder}: {others[0]} trains this model; wait for it, or stop it")
                entered.enter_context(writers.entered(folder, 0.0, 1.0))
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}") from error


@contextlib.contextmanager
def _open(
    root: Path,
    table: Manifest,
    plan: extraction.Plan,
    settings: Settings,
    seen: dict[str, Any] | None,
    folder: Path,
    cache: Path,
    extracting: Progress,
) -> Iterator[tuple[feeding.Source, feeding.Source]]:
    """Yield the rows of train and val: activations, computed first where the cache lacks them, or pixels."""
    train, val = table.distinct("train"), table.distinct("val")
    if settings.from_pixels:
        size, geometry = plan.size, plan.spec["resize"]
        empty = views.Policy(flip="none", rotation=0.0, zoom=0.0, shift=0.0, brightness=0.0, contrast=0.0)
        yield (
            feeding.LivePixels(root, train, size=size, geometry=geometry, policy=settings.policy),
            feeding.LivePixels(root, val, size=size, geometry=geometry, policy=empty),
        )
        return
    used = [place for place, split in enumerate(table.splits) if split in ("train", "val")]
    manifest.write(table.take(used), folder / "manifest.csv")
    extraction.extract(
        root,
        folder / "manifest.csv",
        folder / "activations.h5",
        plan,
        views=seen["count"] if seen else 1,
        policy=views.Policy(**seen["policy"]) if seen else settings.policy,
        cache=cache,
        batch_size=settings.batch_size,
        progress=extracting,
    )
    with Features(folder / "activations.h5") as features:
        yield feeding.CachedRows(features, train.digests), feeding.CachedRows(features, val.digests)


def _labelled(
    source: feeding.Source,
    table: Manifest,
    split: str,
    classes: list[str],
    weighting: ClassWeight | None,
    like: _Split | None = None,
) -> _Split:
    """Add codes and weights to rows; the weight of a class is that which it has in the split `like`."""
    code_of = {label: code for code, label in enumerate(classes)}
    codes = np.array([code_of[label] for label in table.distinct(split).labels], np.int64)
    counted = codes if like is None else like.codes
    if len(np.unique(counted)) < len(classes):
        raise InputError(
            "expected images of each class in the train split, received none of some: run `headstart prepare` with "
            "--stratify"
        )
    return _Split(source, codes, class_weights(counted, weighting)[codes].astype(np.float32))


def _train(
    tuner: Tuner,
    train: _Split,
    val: _Split,
    settings: Settings,
    checkpoint: Path,
    progress: Progress,
    told: Callable[[Row], None],
    warnings: list[str],
) -> Summary:
    if settings.patience and not len(val.codes):
        raise InputError(
            f"patience: early stopping after {settings.patience} epochs expected validation images to watch, received "
            "none: prepare the manifest with a --val-fraction above 0, or fine-tune with --patience 0"
        )
    if settings.deterministic:
        frameworks.tensorflow().config.experimental.enable_op_determinism()
    before = tuner.frozen_digest()
    state = _resumed(checkpoint, tuner)
    resumed_after = state.epoch
    for row in state.history:
        told(row)
    started = time.monotonic()
    while state.epoch < settings.epochs and not _is_over(state, settings):
        epoch = state.epoch + 1
        row: Row = {"epoch": epoch} | _learn(tuner, train, settings, epoch, progress)
        if len(val.codes):
            row |= {f"val_{name}": value for name, value in _judge(tuner, val, settings).items()}
        _require_finite(row, settings)
        state.weights, state.optimizer = tuner.weights(), tuner.optimizer_state()
        state.history.append(row)
        if not settings.patience or row["val_loss"] <= min(past["val_loss"] for past in state.history):
            state.best, state.best_epoch = state.weights, epoch
        _keep(checkpoint, state)
        told(row)
    tuner.set_weights(state.best)
    if tuner.frozen_digest() != before:
        raise FrozenWeightsError("expected the frozen weights as they were before training, received others")
    seconds = time.monotonic() - started
    return Summary(tuner.table(), state.history, state.best_epoch, resumed_after, seconds, warnings)


def _is_over(state: _State, settings: Settings) -> bool:
    return bool(settings.patience) and state.epoch - state.best_epoch >= settings.patience


def _learn(tuner: Tuner, train: _Split, settings: Settings, epoch: int, progress: Progress) -> Row:
    """Train for one epoch; return the means of loss and accuracy over its rows."""
    order = train.source.order(np.random.default_rng((settings.seed, epoch)))
    batches = feeding.count_batches(order, settings.batch_size)
    tuner.begin(epoch)
    loss, right = 0.0, 0
    done = (epoch - 1) * batches
    for places, rows in feeding.prefetched(train.source, order, batch_size=settings.batch_size, epoch=epoch):
        rate = learning_rate(settings, done, batches)
        sums = tuner.train(rows, train.codes[places], train.weights[places], rate=rate)
        loss, right, done = loss + sums.loss * len(places), right + sums.right, done + 1
        progress(done, settings.epochs * batches)
    return {"loss": loss / train.source.count, "accuracy": right / train.source.count}


def _judge(tuner: Tuner, val: _Split, settings: Settings) -> Row:
    loss, right = 0.0, 0
    for places, rows in feeding.prefetched(val.source, val.source.order(None), batch_size=settings.batch_size, epoch=0):
        sums = tuner.judge(rows, val.codes[places], val.weights[places])
        loss, right = loss + sums.loss * len(places), right + sums.right
    return {"loss": loss / val.source.count, "accuracy": right / val.source.count}


def learning_rate(settings: Settings, step: int, steps_an_epoch: int) -> float:
    """Return the rate of a step, counted from 0 over all epochs."""
    warm = settings.warmup_epochs * steps_an_epoch
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    whole = max(1.0, settings.epochs * steps_an_epoch - warm)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / whole))


def _require_finite(row: Row, settings: Settings) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise InputError(
                f"expected a finite {name}, received {value} in epoch {row['epoch']:.0f}: training diverged; lower "
                f"--learning-rate ({settings.learning_rate})"
            )


def _keep(path: Path, state: _State) -> None:
    """Publish a checkpoint: arrays without pickle, and the history as JSON text."""
    text = json.dumps({"history": state.history, "best_epoch": state.best_epoch})
    arrays = {
        f"{part}.{place}": array
        for part in ("weights", "optimizer", "best")
        for place, array in enumerate(getattr(state, part))
    }
    with published(path) as temporary:
        np.savez(temporary, text=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def _resumed(path: Path, tuner: Tuner) -> _State:
    """Put the network and its optimizer where a checkpoint left them; without one, or with a damaged one, at the start."""
    state = _State(tuner.weights(), tuner.optimizer_state(), tuner.weights())
    try:
        with np.load(path, allow_pickle=False) as stored:
            text = json.loads(stored["text"].tobytes())
            parts = {
                part: [stored[f"{part}.{place}"] for place in range(len(getattr(state, part)))]
                for part in ("weights", "optimizer", "best")
            }
        tuner.set_weights(parts["weights"])
        tuner.set_optimizer_state(parts["optimizer"])
        return _State(**parts, best_epoch=text["best_epoch"], history=text["history"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        tuner.set_weights(state.weights)
        tuner.set_optimizer_state(state.optimizer)
        return state


def _versions() -> dict[str, str]:
    frameworks.tensorflow()
    import tensorflow

    return {"keras": importlib.metadata.version("keras"), "tensorflow": str(tensorflow.__version__)}
