"""Several evaluations on the same test images, side by side: every pair, a ranking, and a verdict in one sentence.

What `compare` leaves in its folder::

    comparison.csv     a row a pair: both differences with their intervals, the p-values, which is better
    ranking.csv        a row a model, the most accurate first
    comparison.json    the verdict, and all of the above
    ranking.png        accuracy, and how far each lies behind the first

A model is shown to be better than another if McNemar's test, corrected for the number of pairs, says so at 5 %.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.evaluation import predictions_file, verdict
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.evaluation.verdict import NO_DIFFERENCE, Pair, Place
from pipeline.heads import training_time
from pipeline.heads.training_time import Cost
from pipeline.plots import comparison
from pipeline.stats import paired_tests
from pipeline.stats.score_intervals import log_losses
from pipeline.storage.atomic import publish_csv, published
from pipeline.storage.json_files import TEXT, Document, each, fields_of, object_of, publish_digests, require_own, whole

COMPARISON, RANKING = "comparison.csv", "ranking.csv"
SUMMARY, PICTURE = "comparison.json", "ranking.png"
DECIMALS: Final = 6
COMPARED: Final = Document(
    "a comparison",
    "`hs.compare`",
    {
        "images": whole(1),
        "ranking": each(object_of(**fields_of(Place))),
        "pairs": each(object_of(**fields_of(Pair))),
        "verdict": TEXT,
        "fine_tuning": each(TEXT),
    },
    listed=True,
)
ALPHA: Final = 0.05  # of the corrected test


@dataclass(frozen=True)
class CompareResult:
    """What a comparison found.

    Attributes
    ----------
    images : int
        Test images.
    ranking : list of Place
        The most accurate first; of equals that of lower log loss.
    pairs : list of Pair
        In the order of the ranking.
    verdict : str
        One sentence.
    fine_tuning : list of str
        One sentence for each fine-tuned model whose head stands beside it.
    joined : dict of str to str
        Models that are left out, since each is a head, joined to its base, that stands in the ranking.
    """

    images: int
    ranking: list[Place]
    pairs: list[Pair]
    verdict: str
    fine_tuning: list[str]
    joined: dict[str, str]


@dataclass(frozen=True)
class _Judged:
    """One evaluation: its name, its numbers, and for each image whether it is right and what it loses."""

    name: str
    numbers: dict[str, float]
    correct: NDArray[np.bool_]
    losses: NDArray[np.float64]


def compare(out_dirs: Sequence[Path], result_dir: Path, settings: CompareSettings) -> CompareResult:
    """Set evaluations side by side, and write tables, picture and verdict.

    Parameters
    ----------
    out_dirs : sequence of Path
        Folders written by `evaluate.evaluate`, two at least; a folder without an evaluation of its own stands for
        all that lie in it.
    result_dir : Path
        Made if it is missing.
    settings : CompareSettings
        The reports are ``NAME.json``, as `training_time.write` makes them, for those evaluations whose cost is known.

    Raises
    ------
    InputError
        There are fewer than two, or they were made on other test images or with other labels.
    ArtefactError
        A file is missing or damaged, or a folder holds files of two runs.
    """
    require_own(result_dir, SUMMARY)
    folders, joined = once_each(expand(out_dirs))
    if len(folders) < 2 and not joined:
        raise InputError(f"expected two evaluations or more, received {', '.join(map(str, folders)) or 'none'}")
    judged = _read(folders)
    known = _costs(settings.reports, [one.name for one in judged])
    ordered = sorted(judged, key=lambda one: (-one.correct.sum(), float(one.losses.mean()), one.name))
    pairs = _pairs(ordered)
    started = predictions_file.started(predictions_file.subjects(folders, [one.name for one in judged]))
    ranking = [_place(one, pairs, known.get(one.name)) for one in ordered]
    summary = CompareResult(
        len(ordered[0].correct),
        ranking,
        pairs,
        verdict.overall(ranking, pairs),
        [
            *verdict.fine_tuning(pairs, started, known),
            *verdict.in_vain(joined, _costs(settings.reports, list(joined))),
        ],
        joined,
    )
    _write(result_dir, summary)
    return summary


def expand(out_dirs: Sequence[Path], file: str = predictions_file.PREDICTIONS) -> list[Path]:
    """Replace each folder that holds no such file of an evaluation by those in it that do, in the order of their names.

    ArtefactError if a folder neither is nor holds an evaluation.
    """
    found: list[Path] = []
    for folder in out_dirs:
        if (folder / file).exists():
            found.append(folder)
            continue
        inside = sorted(path.parent for path in folder.glob(f"*/{file}"))
        if not inside:
            raise ArtefactError(f"{folder}: expected {file} of `hs.evaluate` in it, or in folders in it, received none")
        found += inside
    return list(dict.fromkeys(found))


def once_each(folders: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Leave out each model that is a head, joined to its base, where the head stands, too; name both of each pair."""
    subjects = predictions_file.subjects(folders, folders)
    heads = {one.identity: folder for folder, one in subjects.items()}
    doubles = {
        folder: heads[one.head] for folder, one in subjects.items() if one.head in heads and one.head != one.identity
    }
    return [folder for folder in folders if folder not in doubles], {
        model.name: head.name for model, head in doubles.items()
    }


def _read(folders: Sequence[Path]) -> list[_Judged]:
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.as_posix() for folder in folders]
    first = predictions_file.read_predictions(folders[0])
    judged = []
    for name, folder in zip(names, folders, strict=True):
        found = predictions_file.read_predictions(folder)
        order = _order(folders[0], first, folder, found)
        codes = np.array([found.classes.index(label) for label in first.labels])
        correct = np.array(found.predicted)[order] == np.array(first.labels)
        numbers = predictions_file.read_metrics(folder)
        if numbers["images"] != len(found) or abs(numbers["accuracy"] - correct.mean()) > 10.0**-DECIMALS:
            raise ArtefactError(
                f"{folder}: expected {predictions_file.ALL_METRICS} and {predictions_file.PREDICTIONS} of one "
                f"evaluation, received accuracy {numbers['accuracy']} of {numbers['images']} images and "
                f"{correct.mean():.6f} of {len(found)}"
            )
        judged.append(_Judged(name, numbers, correct, log_losses(codes, found.probabilities[order])))
    return judged


def _order(
    first_dir: Path, first: predictions_file.Predictions, second_dir: Path, second: predictions_file.Predictions
) -> NDArray[np.intp]:
    """Return where each image of the first evaluation stands in the second; refuse if they differ."""
    place = {digest: number for number, digest in enumerate(second.digests)}
    alone = [path for path, digest in zip(first.paths, first.digests, strict=True) if digest not in place]
    of_first = set(first.digests)
    others = [path for path, digest in zip(second.paths, second.digests, strict=True) if digest not in of_first]
    if alone or others:
        parts = [
            f"{folder} alone has {paths[0]!r}" + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")
            for folder, paths in ((first_dir, alone), (second_dir, others))
            if paths
        ]
        raise InputError(f"expected the same test images in {first_dir} and {second_dir}, received: {'; '.join(parts)}")
    order = np.array([place[digest] for digest in first.digests])
    for path, label, row in zip(first.paths, first.labels, order, strict=True):
        if second.labels[row] != label:
            raise InputError(
                f"expected the same labels in {first_dir} and {second_dir}, received {label!r} and "
                f"{second.labels[row]!r} for {path}"
            )
    return order


def _costs(reports: Path | None, names: Sequence[str]) -> dict[str, Cost]:
    if reports is None:
        return {}
    found = {name: reports / f"{Path(name).name}.json" for name in names}
    return {name: training_time.read(path) for name, path in found.items() if path.exists()}


def _pairs(ordered: Sequence[_Judged]) -> list[Pair]:
    places = list(combinations(range(len(ordered)), 2))
    n = len(ordered[0].correct)
    losses = np.stack([one.losses for one in ordered], axis=1)
    of_loss = paired_tests.loss_differences(losses, places)
    alone = []
    for i, j in places:
        first, second = ordered[i].correct, ordered[j].correct
        alone.append((int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first))))
    p_values = [paired_tests.mcnemar(*counts) for counts in alone]
    corrected = zip(p_values, paired_tests.holm(p_values), paired_tests.multiplicities(p_values), strict=True)
    pairs = []
    for (i, j), counts, loss, (p, p_holm, times) in zip(places, alone, of_loss, corrected, strict=True):
        name, z = ordered[i].name, paired_tests.quantile(times)
        pair = Pair(
            name,
            ordered[j].name,
            *counts,
            *_rounded(paired_tests.accuracy_difference(*counts, n, z=z)),
            *_rounded(loss),
            p=_figures(p),
            p_holm=_figures(p_holm),
            better=name if p_holm <= ALPHA else NO_DIFFERENCE,
        )
        pairs.append(pair)
    return pairs


def _rounded(estimate: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = (round(number, DECIMALS) for number in estimate)
    return value, low, high


def _figures(p: float) -> float:
    return float(f"{p:.4g}")


def _place(one: _Judged, pairs: Sequence[Pair], cost: Cost | None) -> Place:
    beaten_by = sum(pair.second == one.name and pair.better == pair.first for pair in pairs)
    accuracy, loss = (_estimate(one.numbers, metric) for metric in ("accuracy", "log_loss"))
    return Place(1 + beaten_by, one.name, *accuracy, *loss, seconds=cost.seconds if cost else None)


def _estimate(numbers: Mapping[str, float], metric: str) -> tuple[float, float, float]:
    return numbers[metric], numbers[f"{metric}_low"], numbers[f"{metric}_high"]


def _write(result_dir: Path, summary: CompareResult) -> None:
    for name, kind, rows in ((COMPARISON, Pair, summary.pairs), (RANKING, Place, summary.ranking)):
        values = [["" if value is None else value for value in asdict(row).values()] for row in rows]
        publish_csv(result_dir / name, [field.name for field in fields(kind)], values)
    _draw(result_dir / PICTURE, summary)
    with published(result_dir / SUMMARY) as path:
        path.write_text(json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    publish_digests(result_dir, (COMPARISON, RANKING, SUMMARY))


def _draw(path: Path, summary: CompareResult) -> None:
    leader = summary.ranking[0].name
    behind: dict[str, Any] = {pair.second: pair for pair in summary.pairs if pair.first == leader}
    accuracy = [(one.name, one.accuracy, one.accuracy_low, one.accuracy_high) for one in summary.ranking]
    gaps = [
        (name, -100 * pair.accuracy, -100 * pair.accuracy_high, -100 * pair.accuracy_low)
        for name, pair in behind.items()
    ]
    comparison.ranking(
        accuracy,
        gaps,
        {name for name, pair in behind.items() if pair.better == leader},
        path,
        f"{summary.images:,} test images, 95 % intervals",
    )
