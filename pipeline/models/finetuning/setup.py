"""Head, trunk and images brought together: what a fine-tuning is made of, and where its model goes."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, tails
from pipeline.backbones.engines.engine import version_of
from pipeline.backbones.engines.tensorflow import computing_in
from pipeline.backbones.network import Network
from pipeline.backbones.table import resolve_cut
from pipeline.backbones.weights import load as load_base
from pipeline.errors import InputError
from pipeline.features import extract, resolve, spec
from pipeline.features.features_file import Features
from pipeline.features.resolve import Plan
from pipeline.features.settings import ExtractSettings
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense_layers import Stack
from pipeline.heads.settings import PlateauSettings
from pipeline.heads.store import HEAD_FILE
from pipeline.heads.store import load as load_head
from pipeline.models import assemble, store, training_history
from pipeline.models.finetuning import checkpoints, devices, epochs, input_pipeline
from pipeline.models.finetuning.checkpoints import Row
from pipeline.models.finetuning.epochs import Outcome, Split
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.models.finetuning.trainer import Tuner, distances, layer_states
from pipeline.models.store import LayerState
from pipeline.photos import manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy
from pipeline.photos.splits import FEWEST_VAL
from pipeline.types import Progress


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Where a run tells how it goes.

    Attributes
    ----------
    importing : callable
        Returns the context within which TensorFlow is imported; the command line keeps its greetings from the terminal.
    extracting : callable
        Called with (images done, images) while activations are computed.
    progress : callable
        Called with (batches done, batches of all epochs) while the network trains.
    told : callable
        Called with each epoch's row of the history.
    report_path : Path or None
        Where what was done goes as JSON.
    """

    importing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    extracting: Progress = lambda done, total: None
    progress: Progress = lambda done, total: None
    told: Callable[[Row], object] = lambda row: None
    report_path: Path | None = None


class Job:
    """A head, the trunk it was trained on, and what is to become of them.

    Parameters
    ----------
    features_path, head_dir : Path
        What the head was trained on, and the head.
    settings : FinetuneSettings
    callbacks : Callbacks

    Attributes
    ----------
    classes : list of str
    threshold, calibration : dict or None
        Those of the head, until training changes its probabilities.
    warnings : list of str
    extraction_seconds : float
        Spent on activations below the cut.
    """

    def __init__(self, features_path: Path, head_dir: Path, settings: FinetuneSettings, callbacks: Callbacks) -> None:
        self.settings, self.callbacks, self._cache = settings.tuning, callbacks, settings.cache
        head, record = load_head(head_dir)
        self.classes: list[str] = record["classes"]
        self._head_made = (
            {} if self.settings.starts_new else training_history.recorded(head, training_history.views_of(record))
        )
        self.threshold = thresholds.of_record(record, head_dir)
        calibrate.of_record(record, head_dir)
        self.calibration: dict[str, Any] | None = record.get("calibration")
        self.head_digest = hashlib.sha256((head_dir / HEAD_FILE).read_bytes()).hexdigest()
        with Features(features_path) as kept:
            self.warnings = spec.require_compatible(record["spec"], kept.spec, head=head_dir, features=features_path)
            self.views, self.n_views = kept.views, kept.count
        # Networks train in float32, whatever the features were computed in.
        how = resolve.Again(settings.weights, settings.engine, "float32", settings.cache)
        self.plan, differing = resolve.plan_again(record["spec"], head_dir, how)
        if self.settings.cut.isdecimal():
            self.settings = replace(self.settings, cut=resolve_cut(self.plan.backbone, self.settings.cut))
        self.warnings += [line for line in differing if line not in self.warnings]
        self.extraction_seconds = 0.0
        if not self.settings.epochs:  # nothing trains, so TensorFlow is not asked how
            self._build(head.stack())
            return
        with callbacks.importing():
            devices.import_tensorflow()
        with computing_in("float32"), devices.strategy().scope():
            self._build(head.stack())

    def _build(self, stack: Stack) -> None:
        """Build trunk and head, and what trains them, split at the cut of fine-tuning."""
        settings, plan = self.settings, self.plan
        cut = resolve_cut(plan.backbone, settings.cut if settings.epochs else plan.spec["cut"])
        listed = bool(plan.backbone.layers) and not (settings.epochs or settings.starts_new)
        how = {"cut": cut, "pooling": plan.spec["pooling"]}
        base = load_base(plan.backbone, size=plan.size, alpha=plan.settings.alpha, weights=plan.weights, listed=listed)
        if isinstance(base, Network):  # to be joined it takes names and arrays of layers, and no Keras
            self.trunk: Any = base.up_to(cutting.checked_cut(base, cut))
            self.head: Any = assemble.listed_head(stack)
            self.stack, self.spec = stack, dict(plan.spec)
            return
        if settings.new_conv:
            trunk = tails.topped(plan.backbone, base, **how, widths=settings.new_conv, seed=settings.seed)
        else:
            trunk = cutting.trunk(plan.backbone, base, **how | {"cut": plan.spec["cut"]})
        self.trunk = assemble.flat(trunk)
        stack = stack.renewed(self.trunk.output.shape[1], seed=settings.seed) if settings.starts_new else stack
        self.stack, self.head = stack, assemble.head_network(stack)
        self.spec = dict(plan.spec) | ({"cut": cut} if settings.new_conv else {})
        if not settings.epochs:
            return
        self.tuner = Tuner(
            self.trunk,
            cutting.trunk(plan.backbone, base, cut=cut, pooling="none") if settings.from_pixels else None,
            tails.tail(plan.backbone, self.trunk, cut=cut),
            self.head,
            distance=distances(plan.backbone, self.trunk),
            n_classes=len(self.classes),
            settings=settings,
        )

    def matters(self, table: Manifest) -> dict[str, Any]:
        """Return all that decides how training goes."""
        rows = hashlib.sha256()
        for split, part in zip(("train", "val"), table.learned(), strict=True):
            rows.update(json.dumps([split, part.labels]).encode() + part.digests.tobytes())
        return {
            "settings": self.settings.recorded(),
            "spec": self._below().spec,
            "head": self.head_digest,
            "classes": self.classes,
            "views": self.views,
            "rows": rows.hexdigest(),
            "versions": _versions(),
        }

    def train(self, root: Root, table: Manifest, folder: Path) -> Outcome:
        """Train tail and head: for all epochs where few validation images are learned from, as the head did."""
        of_head, may_stop = self.calibration, bool(self.settings.patience)
        if not len(table.learned()[1]):  # folds would take as many fine-tunings
            self.settings, self.calibration = replace(self.settings, patience=0, plateau=PlateauSettings()), None
            self.warnings.append(f"fewer than {FEWEST_VAL} validation images: trained for all epochs, not calibrated")
        with self.labelled(root, table, folder) as (data, held):
            outcome = epochs.train(
                self.tuner,
                data,
                held,
                self.settings,
                folder / checkpoints.CHECKPOINT,
                keeps_start=may_stop,
                progress=self.callbacks.progress,
                told=self.callbacks.told,
            )
            if outcome.best_epoch and (self.calibration or self.threshold):
                self._settle(held)
            if not outcome.best_epoch:
                self.calibration = of_head
            if epochs.diverged(outcome.history, self.settings, n_classes=len(self.classes)):
                kept = "so the head is kept as it was" if may_stop else "and is kept, as `patience=0` asks"
                self.warnings.append(
                    f"training ended with a loss greater than that of a guess, {kept}: lower `learning_rate` "
                    f"({self.settings.learning_rate:g})"
                )
            return outcome

    @contextlib.contextmanager
    def labelled(self, root: Root, table: Manifest, folder: Path) -> Iterator[tuple[Split, Split]]:
        """Yield the rows of train and val, with their codes and weights."""
        learned, held_out = table.learned()
        with self._open(root, table, folder) as (train, val):
            data = epochs.labelled(train, learned, self.classes, self.settings.class_weight)
            yield data, epochs.labelled(val, held_out, self.classes, self.settings.class_weight, like=data)

    def _settle(self, held: Split) -> None:
        """Fit the temperature and choose the threshold anew: those of the head were for other probabilities."""
        probabilities = epochs.probabilities(self.tuner, held, self.settings)
        if self.calibration:
            temperature = calibrate.fit(probabilities, held.codes)
            self.calibration = calibrate.describe(probabilities, held.codes, temperature)
            probabilities = calibrate.apply(probabilities, temperature)
        if self.threshold:
            self.threshold = self._chosen(probabilities, held.codes, self.threshold)

    def _chosen(
        self, probabilities: NDArray[np.float64], codes: NDArray[np.int64], before: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return a threshold for the wish that the head's was chosen for; None, and a warning, if that cannot be."""
        try:
            ((metric, at_least),) = before["wish"].items()
            wish = thresholds.Wish(metric, at_least, before["positive"])
            found = thresholds.choose(probabilities, codes, self.classes, wish)
        except (KeyError, AttributeError, ValueError, InputError) as error:
            self.warnings.append(
                "the threshold of the head was chosen for its probabilities, which training changes, and there is none "
                f"for the new ones, so the model gives the most probable class: {error}"
            )
            return None
        self.warnings += thresholds.unshown(found)
        return found

    def save(self, model_dir: Path, outcome: Outcome) -> None:
        """Store the model."""
        store.save(
            model_dir,
            self.trunk,
            self.head,
            self.stack,
            store.Record(
                classes=self.classes,
                threshold=self.threshold,
                calibration=self.calibration,
                spec=self.spec,
                new_conv=self.settings.new_conv,
                layers=self.layers(),
                history=outcome.history,
                made={
                    "finetuning": self.settings.recorded() if self.settings.epochs else None,
                    "best_epoch": outcome.best_epoch,
                    "head": self.head_digest,
                    "versions": _versions(),
                    **self._head_made,
                },
            ),
        )

    def layers(self) -> list[LayerState]:
        """List all layers with weights, and what of them trains."""
        if self.settings.epochs:
            return self.tuner.table()
        return [replace(layer, trained=0) for layer in layer_states(self.trunk, self.head, learning=())]

    def _below(self) -> Plan:
        """Plan the extraction of the activations at the cut."""
        return resolve.plan(resolve.at_cut(self.plan, self.settings.cut))

    @contextlib.contextmanager
    def _open(
        self, root: Root, table: Manifest, folder: Path
    ) -> Iterator[tuple[input_pipeline.Source, input_pipeline.Source]]:
        """Yield the rows of train and val: activations, computed first where the cache lacks them, or pixels."""
        train, val = table.learned()
        if self.settings.from_pixels:
            size, fit = self.plan.size, self.plan.fit
            yield (
                input_pipeline.LivePixels(root, train, size=size, fit=fit, policy=self.settings.policy),
                input_pipeline.LivePixels(root, val, size=size, fit=fit, policy=None),
            )
            return
        started = time.monotonic()
        used = [place for place, split in enumerate(table.splits) if split in ("train", "val")]
        manifest.write(table.take(used), folder / "manifest.csv")
        below = ExtractSettings(
            **vars(self._below().settings),
            views=self.n_views,
            policy=Policy(**self.views["policy"]) if self.views else Policy(),
            batch_size=self.settings.batch_size,
            cache=self._cache,
        )
        paths = (folder / "manifest.csv", folder / "activations.h5")
        extract.extract(root, *paths, below, progress=self.callbacks.extracting)
        self.extraction_seconds = time.monotonic() - started
        with Features(folder / "activations.h5") as features:
            learned = input_pipeline.CachedRows(features, train.digests, varied=True)
            yield learned, input_pipeline.CachedRows(features, val.digests, varied=False)


def _versions() -> dict[str, str]:  # TensorFlow's package has another name in its build for CPUs: its module is asked
    return {name: version_of(name) for name in ("keras", "tensorflow")}
