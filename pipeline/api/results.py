"""What a step returns to a Python user: where its output is, its numbers, and a table of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.api.pictures import Pictures
from pipeline.api.table import Table
from pipeline.photos.remote import Root, located
from pipeline.wording import METRICS, counted, interval

SHOWN = 20  # rows of a table that has one for each photo

if TYPE_CHECKING:
    from pipeline.inference.prediction import Prediction


class Shown:
    """What prints as a table, in a terminal and in a notebook."""

    def _table(self) -> Table:
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()


class Drawn(Shown):
    """What a step has drawn pictures of, too."""

    path: Path

    @property
    def pictures(self) -> Pictures:
        """The pictures that are in its folder, by name; ``pictures["NAME"]`` is one, and a notebook shows it."""
        return Pictures.of(self.path if self.path.is_dir() else self.path.parent)


@dataclass(frozen=True)
class Photos(Drawn):
    """Labelled photos: the manifest, the folder of the images, and how many there are of each class in each split.

    ``Photos("headstart-out/manifest.csv", "photos")`` opens a manifest that `prepare` wrote before.
    """

    path: Path
    images: Root
    counts: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    quarantined: int = 0
    warnings: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "images", located(self.images) if isinstance(self.images, str) else self.images)

    def _table(self) -> Table:
        splits = ("train", "val", "test")
        rows = [(label, *(f"{row[split]:,}" for split in splits)) for label, row in self.counts.items()]
        images = sum(sum(row.values()) for row in self.counts.values())
        title = f"{counted(images, 'photo')}, {self.quarantined:,} quarantined: {self.path}" if rows else f"{self.path}"
        return Table(title, ("class", *splits), rows, right={1, 2, 3}, notes=self.warnings)


@dataclass(frozen=True)
class Cut(Drawn):
    """Where `probe` cuts a base, and why; `extract` takes its path as `cut_file`."""

    path: Path
    layer: str
    pooling: str
    why: str

    def _table(self) -> Table:
        return Table(f"{self.layer} with {self.pooling}: {self.path}", (), (), notes=[self.why])


@dataclass(frozen=True)
class Features(Shown):
    """The features of photos, and how many were computed now and reused; without numbers, of an earlier run."""

    path: Path
    photos: Photos
    computed: int | None = None
    reused: int | None = None
    images_per_second: float = 0.0
    engine: str = ""
    warnings: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def pictures(self) -> Pictures:
        """Where there are views, ``views``: some of them, drawn now, into a folder beside the features."""
        from pipeline.features import views_sheet

        folder = self.path.with_suffix("")
        views_sheet.draw(self.photos.images, self.photos.path, self.path, folder / "views.png")
        return Pictures.of(folder)

    def _table(self) -> Table:
        if self.computed is None:
            return Table(str(self.path), (), ())
        numbers = (f"{self.computed:,}", f"{self.reused:,}", f"{self.images_per_second:,.0f}", self.engine)
        return Table(
            str(self.path),
            ("computed", "reused", "a second", "engine"),
            [numbers],
            right={0, 1, 2},
            notes=self.warnings,
        )


@dataclass(frozen=True)
class Trained(Drawn):
    """A head, or a fine-tuned model, in its folder, with what it was trained on and its scores by name.

    `passes` says how many epochs it took, if it has any; of a fine-tuned model, which one's weights were kept.
    """

    path: Path
    features: Features
    scores: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list, repr=False)
    passes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    def _table(self) -> Table:
        rows = [(name, f"{value:,.4f}") for name, value in self.scores.items()]
        title = f"{self.path}, {self.passes}" if self.passes else f"{self.path}"
        return Table(title, ("score", ""), rows, right={1}, notes=self.warnings)


@dataclass(frozen=True)
class Evaluation(Drawn):
    """How a head or a model does on the test split.

    `metrics` are the estimates, ``{"accuracy": {"value": …, "low": …, "high": …}, …}``; `path` holds tables and
    pictures.
    """

    path: Path
    metrics: dict[str, Any] = field(repr=False)
    mistakes: int
    warnings: list[str] = field(default_factory=list, repr=False)
    trained: Trained | None = field(default=None, repr=False)

    def _table(self) -> Table:
        rows = [
            (METRICS.get(name, name.replace("_", " ")), interval(one["value"], one["low"], one["high"]))
            for name, one in self.metrics.items()
            if isinstance(one, dict) and "value" in one
        ]
        title = f"{counted(self.metrics['n'], 'test photo')}, {counted(self.mistakes, 'mistake')}: {self.path}"
        return Table(title, ("metric", "value [95 % interval]"), rows, notes=self.warnings)


@dataclass(frozen=True)
class Comparison(Drawn):
    """Evaluations side by side, the best first, and the verdict."""

    path: Path
    ranking: list[Any] = field(repr=False)
    verdict: str

    def _table(self) -> Table:
        rows = [(str(one.rank), one.name, f"{one.accuracy:.4f}", f"{one.log_loss:.4f}") for one in self.ranking]
        return Table(str(self.path), ("rank", "", "accuracy", "log loss"), rows, right={0, 2, 3}, notes=[self.verdict])


@dataclass(frozen=True)
class Audit(Drawn):
    """What is wrong with the data, as counts by name; tables and pictures of it are in the folder."""

    path: Path
    counts: dict[str, int]
    warnings: list[str] = field(default_factory=list, repr=False)

    def _table(self) -> Table:
        rows = [(name.replace("_", " "), f"{count:,}") for name, count in self.counts.items()]
        return Table(str(self.path), ("audit", ""), rows, right={1}, notes=self.warnings)


@dataclass(frozen=True)
class Growth(Drawn):
    """Accuracy by the number of training photos, ``(value, low, high)`` each, and with twice as many."""

    path: Path
    accuracies: dict[int, tuple[float, float, float]]
    forecast: tuple[float, float, float]
    warnings: list[str] = field(default_factory=list, repr=False)

    def _table(self) -> Table:
        twice = f"{2 * max(self.accuracies):,}, expected"
        shown = [(f"{size:,}", one) for size, one in self.accuracies.items()] + [(twice, self.forecast)]
        rows = [(size, *(f"{number:.4f}" for number in one)) for size, one in shown]
        header = ("photos", "accuracy", "from", "to")
        return Table(str(self.path), header, rows, right={0, 1, 2, 3}, notes=self.warnings)


@dataclass(frozen=True)
class LearningRates(Drawn):
    """The loss at each learning rate, smoothed, and a tenth of the rate at which it is the least."""

    path: Path
    losses: dict[float, float]
    suggested: float

    def _table(self) -> Table:
        rows = [(f"{rate:.1e}", f"{loss:.4f}") for rate, loss in self.losses.items()]
        return Table(
            str(self.path), ("learning rate", "loss"), rows, right={0, 1}, notes=[f"suggested: {self.suggested:g}"]
        )


@dataclass(frozen=True)
class Export(Shown):
    """A model as files that run without Headstart, and how far a probability of each is from the model's at most."""

    path: Path
    files: dict[str, str]
    differences: dict[str, float] = field(default_factory=dict)

    def _table(self) -> Table:
        found = {name: f"{difference:.1e}" for name, difference in self.differences.items()}
        rows = [(name, file, found.get(name, "not compared")) for name, file in self.files.items()]
        return Table(str(self.path), ("format", "file", "largest difference"), rows, right={2})


@dataclass(frozen=True)
class Page(Shown):
    """The report: one HTML file that needs no network."""

    path: Path
    pictures: int
    warnings: list[str] = field(default_factory=list, repr=False)

    def _table(self) -> Table:
        return Table(f"{self.pictures:,} pictures: {self.path}", (), (), notes=self.warnings)


class Predictions(Shown, Sequence["Prediction"]):
    """What became of each photo, one `pipeline.inference.predict.Prediction` a file."""

    def __init__(self, found: "Sequence[Prediction]") -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    def _table(self) -> Table:
        rows = [
            (str(one.path), one.label or one.error or "?", f"{max(one.probabilities.values(), default=0.0):.4f}")
            for one in self._found[:SHOWN]
        ]
        more = len(self._found) - len(rows)
        notes = [f"and {more:,} more: go through them, as through a list"] if more else []
        return Table(
            counted(len(self._found), "photo"), ("photo", "label", "probability"), rows, right={2}, notes=notes
        )
