"""Headstart in Python: from a folder of labelled photos to a good classifier, in a script or a notebook.

::

    import headstart as hs

    photos = hs.prepare("photos")
    features = hs.extract(photos, backbone="efficientnet_lite0")
    head = hs.train(features, head="logistic", C=0.1)
    print(hs.evaluate(head))
    print(hs.load("headstart-out/heads/logistic").predict("new"))

Each function takes the options of the command of the same name as keywords; `help` shows them with their defaults.
What it writes goes to ``headstart-out`` unless another place is named. What it returns is a small object that prints as
a table, in a notebook too.
"""

import contextlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final


def _refuse_another_pipeline() -> None:
    """Refuse to work with a package of somebody else that has the name of ours."""
    here, spec = Path(__file__).resolve().parent, importlib.util.find_spec("pipeline")
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    found = next((place for place in places if place), "none")
    if Path(found).resolve() != here / "pipeline" / "__init__.py":
        raise ImportError(
            f"headstart: expected its own package pipeline in {here}, received {found}, which hides it: rename that, "
            "or start Python elsewhere"
        )


_refuse_another_pipeline()

# ruff: noqa: E402 -- after the check
from pipeline.api.keywords import chosen_settings, takes
from pipeline.api.results import (
    Audit,
    Comparison,
    Cut,
    Evaluation,
    Export,
    Features,
    Growth,
    LearningRates,
    Page,
    Photos,
    Predictions,
    Trained,
)
from pipeline.audit.settings import AuditSettings
from pipeline.errors import HeadstartError, InputError
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.export.settings import ExportSettings
from pipeline.features.settings import AUTO, ExtractSettings, ProbeSettings
from pipeline.heads.settings import GrowthSettings, TrainSettings
from pipeline.inference.settings import PredictSettings
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.photos.remote import Root, located
from pipeline.photos.settings import PrepareSettings
from pipeline.report.settings import ReportSettings
from pipeline.wording import Pace, counted

if TYPE_CHECKING:
    from pipeline.inference.predict import Predictor
    from pipeline.types import Progress

__all__ = [
    "Audit",
    "Comparison",
    "Cut",
    "Evaluation",
    "Export",
    "Features",
    "Growth",
    "HeadstartError",
    "InputError",
    "LearningRates",
    "Loaded",
    "Page",
    "Photos",
    "Predictions",
    "Trained",
    "audit",
    "backbones",
    "compare",
    "evaluate",
    "export",
    "extract",
    "find_learning_rate",
    "finetune",
    "growth",
    "load",
    "prepare",
    "probe",
    "report",
    "train",
]

OUT: Final = Path("headstart-out")
SECONDS_BETWEEN_SIGHTS: Final = 0.1
Place = str | Path


class Loaded:
    """A head, a model or an export that predicts; its network is opened with the first photo and kept."""

    def __init__(self, path: Path, predictor: "Predictor") -> None:
        self.path, self._predictor = path, predictor
        self.classes, self.warnings = predictor.classes, predictor.warnings

    def predict(self, *photos: Place) -> Predictions:
        """Label image files, or folders of them; a file that cannot be used has an error in place of a label."""
        from pipeline.inference.predict import expand

        files = expand([Path(photo) for photo in photos])
        with _progress("images") as advance:
            return Predictions(list(files.predictions(self._predictor, progress=advance)))


def backbones(backbone: str | None = None) -> list[str]:
    """Return the names of the pretrained bases; of the base `backbone`, those of the layers where it can be cut."""
    from pipeline.backbones import cutting, layer_table, table, weights
    from pipeline.backbones.onnx_backbone import ONNX
    from pipeline.backbones.settings import graph_file

    if backbone is None:
        return list(table.BACKBONES)
    if found := graph_file(backbone):
        _, graph = ONNX.listed(ONNX.file(found[1]), size=None)
        return [layer.name for layer in layer_table.layer_table(graph) if layer.can_cut]
    base = table.find(backbone)
    random = weights.find_weights(base, "none", size=base.size, alpha=1.0, seed=0)
    return list(cutting.cut_points(weights.load(base, size=base.size, alpha=1.0, weights=random)))


@takes(PrepareSettings)
def prepare(images: Place, out: Place = OUT / "manifest.csv", **chosen: Any) -> Photos:
    """Find the photos below a folder, decode each once, split them, and write the manifest `out`."""
    from pipeline.photos.prepare import prepare as run

    root, path = _root(images), Path(out)
    with _progress("images") as advance:
        done = run(root, path, chosen_settings(PrepareSettings, "prepare", chosen), progress=advance)
    return Photos(path, root, done.counts, done.quarantined, done.warnings)


@takes(ProbeSettings)
def probe(photos: Photos, out: Place = OUT / "probe" / "cut.json", **chosen: Any) -> Cut:
    """Find where to cut a base, by a quick head at every cut and pooling on a sample."""
    from pipeline.features.probe import cut_file
    from pipeline.features.probe import probe as probing

    settings, path = chosen_settings(ProbeSettings, "probe", chosen), Path(out)
    if settings.cut != AUTO:
        layer, pooling = probing.echo(path, settings)
        return Cut(path, layer, pooling, "as given")
    with _progress("images") as advance:
        finding, _ = probing.probe(photos.images, photos.path, path, settings, progress=advance)
    layer, pooling = cut_file.read(path, backbone=settings.base.backbone)
    return Cut(path, layer, pooling, finding.recommendation.why)


@takes(ExtractSettings)
def extract(photos: Photos, out: Place = OUT / "features.h5", **chosen: Any) -> Features:
    """Run the frozen base once over every photo and keep its features; those computed before come from the cache."""
    from pipeline.features.extract import extract as run

    settings, path = chosen_settings(ExtractSettings, "extract", chosen), Path(out)
    with _progress("rows") as advance:
        done = run(photos.images, photos.path, path, settings, progress=advance)
    return Features(path, photos, done.computed, done.reused, done.images_per_second, done.engine, done.warnings)


@takes(AuditSettings)
def audit(features: Features, out: Place = OUT / "audit", **chosen: Any) -> Audit:
    """Look for copies, leaks, contradictions, wrong labels and outliers; tables and pictures go to the folder `out`."""
    from pipeline.audit.audit import audit as run
    from pipeline.audit.audit import warnings_of

    settings, path, photos = chosen_settings(AuditSettings, "audit", chosen), Path(out), features.photos
    with _progress("images") as advance:
        counts = run(photos.images, photos.path, features.path, path, settings, progress=advance)
    return Audit(path, counts, warnings_of(features.path))


@takes(GrowthSettings)
def growth(features: Features, out: Place = OUT / "growth", **chosen: Any) -> Growth:
    """Measure accuracy with fewer training photos, and forecast what twice as many would bring."""
    from pipeline.heads.selection.learning_curve import Estimate, grow

    def ends(one: Estimate) -> tuple[float, float, float]:
        return one.value, one.low, one.high

    settings, path = chosen_settings(GrowthSettings, "growth", chosen), Path(out)
    with _progress("fits") as advance:
        done = grow(features.photos.path, features.path, path, settings, progress=advance)
    accuracies = dict(zip(done.sizes, map(ends, done.accuracies), strict=True))
    return Growth(path, accuracies, ends(done.forecast), done.warnings)


@takes(TrainSettings)
def train(features: Features, out: Place | None = None, **chosen: Any) -> Trained:
    """Fit a light head on features, and keep it in the folder `out`, by default ``headstart-out/heads/KIND``."""
    from pipeline.heads.train import train as run

    settings = chosen_settings(TrainSettings, "train", chosen)
    path = Path(out or OUT / "heads" / settings.head)
    with _progress("epochs") as advance:
        done = run(features.photos.path, features.path, path, settings, given=chosen, progress=advance)
    scores = {"train accuracy": done.train.accuracy, "train loss": done.train.loss}
    if done.val:
        scores |= {"val accuracy": done.val.accuracy, "val loss": done.val.loss}
    if done.out_of_fold:
        scores |= {"out-of-fold accuracy": done.out_of_fold.accuracy, "out-of-fold loss": done.out_of_fold.loss}
    return Trained(path, features, scores, done.warnings, done.passes)


@takes(FinetuneSettings)
def finetune(trained: Trained, out: Place | None = None, **chosen: Any) -> Trained:
    """Join base and head into a model in `out`, by default ``headstart-out/models/KIND``, and train it on if asked."""
    from pipeline.models.finetuning import finetune as finetuning

    settings, features = chosen_settings(FinetuneSettings, "finetune", chosen), trained.features
    path = Path(out or OUT / "models" / trained.path.name)
    with _progress("images") as extracting, _progress("batches") as training:
        callbacks = finetuning.Callbacks(extracting=extracting, progress=training)
        paths = (features.photos.images, features.photos.path, features.path, trained.path, path)
        done = finetuning.finetune(*paths, settings, callbacks)
    scores = {name.replace("_", " "): value for name, value in done.scores.items()}
    scores.pop("epoch", None)
    passes = f"{counted(len(done.history), 'epoch')}, {done.kept}" if done.history else ""
    return Trained(path, features, scores, done.warnings, passes)


@takes(FinetuneSettings)
def find_learning_rate(trained: Trained, out: Place | None = None, **chosen: Any) -> LearningRates:
    """Let the learning rate of `finetune` rise over 100 steps; ``headstart-out/learning_rates/KIND`` has the curve."""
    from pipeline.models.finetuning import finetune as finetuning

    settings = chosen_settings(FinetuneSettings, "find_learning_rate", {"epochs": 1} | chosen)
    features, path = trained.features, Path(out or OUT / "learning_rates" / trained.path.name)
    with _progress("images") as extracting, _progress("steps") as training:
        callbacks = finetuning.Callbacks(extracting=extracting, progress=training)
        paths = (features.photos.images, features.photos.path, features.path, trained.path, path)
        found = finetuning.find_learning_rate(*paths, settings, callbacks)
    return LearningRates(path, {row["rate"]: row["smoothed"] for row in found.rows}, found.suggested)


@takes(EvaluateSettings)
def evaluate(trained: Trained, out: Place | None = None, **chosen: Any) -> Evaluation:
    """Evaluate a head or a model on the test split; tables and pictures go to ``headstart-out/evaluation/NAME``."""
    from pipeline.evaluation.evaluate import evaluate as run

    settings, photos = chosen_settings(EvaluateSettings, "evaluate", chosen), trained.features.photos
    path = Path(out or OUT / "evaluation" / trained.path.name)
    with _progress("images") as advance:
        paths = (photos.images, photos.path, trained.features.path, trained.path, path)
        done = run(*paths, settings, progress=advance)
    return Evaluation(path, done.metrics, done.mistakes, done.warnings, trained)


@takes(CompareSettings)
def compare(*evaluations: Evaluation, out: Place = OUT / "comparison", **chosen: Any) -> Comparison:
    """Say which of several heads or models is better, and which differences may be chance."""
    from pipeline.evaluation.compare import compare as run

    settings, path = chosen_settings(CompareSettings, "compare", chosen), Path(out)
    done = run([one.path for one in evaluations], path, settings)
    return Comparison(path, list(done.ranking), done.verdict)


@takes(ExportSettings)
def export(trained: Trained, out: Place | None = None, **chosen: Any) -> Export:
    """Write a head or a model as files that run without Headstart, by default to ``headstart-out/exports``.

    Each is compared with the model on test photos, those that it was trained with unless `images` and `manifest` name
    others.
    """
    from pipeline.export.export import export as run

    photos = trained.features.photos
    settings = chosen_settings(ExportSettings, "export", {"images": photos.images, "manifest": photos.path} | chosen)
    path = Path(out or OUT / "exports" / trained.path.name)
    with _progress("steps") as advance:
        done = run(trained.path, path, settings, progress=advance)
    return Export(path, done.files, {row.format: row.largest_difference for row in done.parity})


@takes(ReportSettings)
def report(*evaluations: Evaluation, out: Place = OUT / "report.html", **chosen: Any) -> Page:
    """Show photos, layers, evaluations, mistakes and a map of the features on one page, the file `out`."""
    from pipeline.report.collect import Inputs
    from pipeline.report.report import report as run
    from pipeline.report.sections.heatmaps import HeatMaps

    trained = [one.trained for one in evaluations if one.trained]
    if not trained:
        raise TypeError("report() expects evaluations that evaluate() returned, one or more, received none")
    chosen = {"trained": [one.path for one in trained]} | chosen
    settings, path, features = chosen_settings(ReportSettings, "report", chosen), Path(out), trained[0].features
    photos, folders = features.photos, [one.path for one in evaluations]
    inputs = Inputs.of(photos.images, photos.path, features.path, folders, settings)
    more: dict[str, Any] = {"commit": None, "looks": None, "explain": HeatMaps.of(settings)}
    with _progress("pictures") as advance:
        done = run(inputs, path, settings, progress=advance, **more)
    return Page(path, done.pictures, done.warnings)


@takes(PredictSettings)
def load(path: Place, **chosen: Any) -> Loaded:
    """Open a head, a model or an export to predict with."""
    from pipeline.inference.predict import Predictor

    settings = chosen_settings(PredictSettings, "load", chosen)
    return Loaded(Path(path), Predictor(Path(path), settings.runtime, settings))


def _root(images: Any) -> Root:
    return located(images) if isinstance(images, str) else images


@contextlib.contextmanager
def _progress(unit: str) -> "Iterator[Progress]":
    """Yield a callback ``(done, total)`` that shows how far the work is, until it ends."""
    pace, show, shown = Pace(unit), _line(), -math.inf

    def advance(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_SIGHTS or done == total:
            shown = now
            show(pace.told(done, total, now))

    try:
        yield advance
    finally:
        show("")


def _line() -> Callable[[str], None]:
    """Return what shows a text in place of the one before, in a notebook or on a terminal; elsewhere it shows none."""
    if "ipykernel" in sys.modules:
        from IPython.display import display

        line = display({"text/plain": ""}, raw=True, display_id=True)
        return lambda text: line.update({"text/plain": text}, raw=True)
    from rich.console import Console
    from rich.status import Status

    status = Status("", console=Console(stderr=True))

    def show(text: str) -> None:
        if text:
            status.update(text)
            status.start()
        else:
            status.stop()

    return show
