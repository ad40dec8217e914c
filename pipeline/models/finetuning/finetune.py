"""Head to model: trunk and head joined and, if asked for, the layers above a cut trained on.

What lies below the cut is frozen, so it is run once over every image, and its activations are cached like any row.
Training from them is the same function as training the whole network with its lower part frozen. With live
augmentation, or with the cut at the image itself, pixels are read anew in each epoch.

After each epoch a checkpoint goes to ``<cache>/finetuning/<digest of all that matters>``; a run that was killed goes on
from there and ends as if it had not been. The folder is removed once the model is stored.
"""

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.backbones import table
from pipeline.backbones.engines import keras_process
from pipeline.backbones.engines.engine import choose
from pipeline.backbones.engines.keras_process import CannotBuildError
from pipeline.errors import SettingError
from pipeline.heads import registry, store, training_log, training_time
from pipeline.heads.split_rows import require_same_classes
from pipeline.models.finetuning import checkpoints, rate_range
from pipeline.models.finetuning.checkpoints import Row
from pipeline.models.finetuning.epochs import FrozenWeightsError, Outcome
from pipeline.models.finetuning.rate_range import RateRange
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.models.finetuning.setup import Callbacks, Job
from pipeline.models.model import MODEL_FILE
from pipeline.models.store import LayerState
from pipeline.photos import manifest
from pipeline.photos.remote import Root
from pipeline.storage.json_files import require_own

__all__ = ["Callbacks", "FinetuneResult", "FinetuneSettings", "FrozenWeightsError", "finetune"]


@dataclass(frozen=True)
class FinetuneResult:
    """What a run did.

    Attributes
    ----------
    layers : list of LayerState
        What is frozen and what trained, from below.
    history : list of dict
        A row an epoch: epoch, loss, accuracy and, with validation images, val_loss, val_accuracy. The training side is
        the mean over the epoch's batches, while the weights move.
    best_epoch : int
        Whose weights the model has; 0 if they are those that it started with.
    resumed_after : int
        The epoch whose checkpoint the run went on from; 0 if it started afresh.
    extraction_seconds : float
        For activations below the cut, this time.
    training_seconds : float
        For the epochs computed this time.
    warnings : list of str
        What the user should know, one line each.
    views : int
        Of each photo in the cache, of which an epoch trains on the next: it is one pass over the photos.
    start : dict or None
        Loss and accuracy before the first epoch, where that start may be kept: on the validation images, if any.
    """

    layers: list[LayerState]
    history: list[Row]
    best_epoch: int
    resumed_after: int
    extraction_seconds: float
    training_seconds: float
    warnings: list[str]
    views: int
    start: Row | None

    @property
    def scores(self) -> Row:
        """Losses and accuracies with the weights that the model has; none if nothing was trained."""
        if self.best_epoch:
            return self.history[self.best_epoch - 1]
        side = "val_" if any("val_loss" in row for row in self.history) else ""
        return {f"{side}{name}": value for name, value in (self.start or {}).items()}

    @property
    def kept(self) -> str:
        """In words, which epoch's weights the model has; empty if it was not trained."""
        if not self.history:
            return ""
        return f"epoch {self.best_epoch} is kept" if self.best_epoch else "none is better than the head, which is kept"

    @property
    def trained(self) -> int:
        """How many numbers train."""
        return sum(layer.trained for layer in self.layers)

    @property
    def frozen(self) -> int:
        """How many do not."""
        return sum(layer.parameters for layer in self.layers) - self.trained


def finetune(
    images_root: Root,
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    model_dir: Path,
    settings: FinetuneSettings,
    callbacks: Callbacks,
) -> FinetuneResult:
    """Join trunk and head into a model, having trained what lies above a cut for some epochs.

    Identical files count once. The test split is not read. Where the features hold several views of each image, so do
    the cached activations, and each epoch trains on the next view; validation is on the image itself.

    Parameters
    ----------
    images_root : Path or Address
    manifest_path : Path
        As for `pipeline.features.extract.extract`; without epochs neither is read.
    features_path, head_dir : Path
        What the head was trained on, of which the spec is read, and the head.
    model_dir : Path
        Where `pipeline.models.store.save` writes.
    settings : FinetuneSettings
    callbacks : Callbacks

    Raises
    ------
    InputError
        A setting, a layer or an image is not as expected, or the loss became infinite or NaN.
    SpecError
        Features, weights and head do not belong together.
    ArtefactError
        The manifest has other classes than the head, or a file is damaged.
    BusyError
        Another process trains the same model.
    FrozenWeightsError
        Frozen weights have changed.
    """
    settings.tuning.check()
    require_own(model_dir, MODEL_FILE)
    _require_kind(head_dir, settings.head)
    make = partial(_made, images_root, manifest_path, features_path, head_dir, model_dir, settings)
    summary = None
    if not settings.tuning.epochs and choose(settings.engine) == "openvino" and _joins_apart(head_dir, settings):
        with contextlib.suppress(CannotBuildError):
            summary = keras_process.call(make)
    with training_log.logged(settings.log, callbacks.told) as told:
        summary = summary or make(replace(callbacks, told=told))
    if callbacks.report_path:
        counted = {name: getattr(summary, name) for name in ("best_epoch", "resumed_after", "trained", "frozen")}
        spent = {name: round(getattr(summary, name), 3) for name in ("extraction_seconds", "training_seconds")}
        stage = "finetune" if summary.history else "join"
        cost = training_time.Cost(stage, round(sum(spent.values()), 3), head=head_dir.name)
        training_time.write(callbacks.report_path, cost, epochs=len(summary.history), **counted, **spent)
    return summary


def _made(
    images_root: Root,
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    model_dir: Path,
    settings: FinetuneSettings,
    callbacks: Callbacks | None = None,
) -> FinetuneResult:
    job = Job(features_path, head_dir, settings, callbacks or Callbacks())
    if not settings.tuning.epochs:
        outcome = Outcome([], 0, 0, 0.0)
        job.save(model_dir, outcome)
    else:
        table = manifest.read(manifest_path)
        require_same_classes(table.classes, job.classes, manifest_path, head_dir)
        with checkpoints.folder(settings.cache, job.matters(table)) as folder:
            outcome = job.train(images_root, table, folder)
            job.save(model_dir, outcome)
    return FinetuneResult(
        job.layers(),
        outcome.history,
        outcome.best_epoch,
        outcome.resumed_after,
        job.extraction_seconds,
        outcome.seconds,
        job.warnings,
        1 if settings.tuning.from_pixels else job.n_views,
        outcome.start,
    )


def _joins_apart(head_dir: Path, settings: FinetuneSettings) -> bool:
    """Whether Keras is needed to join a head to its base, and builds the same base whatever it computes with."""
    described = store.load(head_dir)[1]["spec"]
    is_random = "seed" in described["weights"]  # which differs between what Keras computes with
    is_listed = bool(table.find(described["backbone"]["name"]).layers) and not settings.tuning.starts_new
    return not (is_random or is_listed)


def find_learning_rate(
    images_root: Root,
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    out_dir: Path,
    settings: FinetuneSettings,
    callbacks: Callbacks,
) -> RateRange:
    """Let the learning rate rise from step to step, and write the losses as a table and a picture; no model is kept.

    The arguments, and what is raised, are those of `finetune`, but for `out_dir`, where `rate_range.write` writes. What
    trains is what the settings name; there must be an epoch at least, though steps are counted, and not epochs.
    """
    settings.tuning.check()
    require_own(out_dir, MODEL_FILE)
    _require_kind(head_dir, settings.head)
    job = Job(features_path, head_dir, settings, callbacks)
    table = manifest.read(manifest_path)
    require_same_classes(table.classes, job.classes, manifest_path, head_dir)
    with checkpoints.folder(settings.cache, job.matters(table) | {"range": rate_range.STEPS}) as folder:
        with job.labelled(images_root, table, folder) as (train, _):
            path = folder / checkpoints.CHECKPOINT
            found = rate_range.sweep(job.tuner, train, job.settings, path, callbacks.progress)
        rate_range.write(found, out_dir)
    return found


def _require_kind(head_dir: Path, kind: str | None) -> None:
    if kind is not None and (found := registry.name_of(store.load(head_dir)[0])) != kind:
        raise SettingError.of("head", f"a head of kind {kind} in {head_dir}", found)
