"""The training photos are searched exactly, and familiarity is a fraction of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import InputError, SpecError
from pipeline.features import features_file, spec
from pipeline.inference import out_of_distribution
from pipeline.inference.out_of_distribution import TrainingPhotos
from pipeline.photos import manifest
from pipeline.stats import nearest_neighbours
from tests import fakes

SPEC: dict[str, Any] = {"backbone": {"name": "b"}, "weights": {"sha256": "0"}, "precision": "float32"}


def written(folder: Path, rows: NDArray[np.floating[Any]], splits: list[str]) -> None:
    """Features whose digests ascend with the rows, and a manifest in another order."""
    digests = np.zeros((len(rows), 32), np.uint8)
    digests[:, 0], digests[:, 1] = np.divmod(np.arange(len(rows)), 256)
    features_file.write(
        folder / "features.h5",
        spec=spec.canonical(SPEC),
        digests=digests,
        row_shape=rows.shape[1:],
        dtype="float32",
        blocks=[rows],
    )
    table = [
        manifest.Row(f"{place:05}.png", digests[place].tobytes(), f"class {place % 2}", split, 1, 1, "PNG")
        for place, split in enumerate(splits)
    ]
    manifest.write(manifest.from_rows(table[::-1]), folder / "manifest.csv")


def opened(folder: Path, described: spec.Spec = SPEC) -> TrainingPhotos:
    return TrainingPhotos(folder / "features.h5", folder / "manifest.csv", described)


def draw(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(params=[2**29, 0], ids=["in memory", "on disk"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_distribution, "MEMORY", request.param)
    monkeypatch.setattr(out_of_distribution, "BLOCK_BYTES", 4 * 6 * 7)  # seven rows


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("k", [1, 4, 100])
def test_the_nearest_are_those_of_a_sort_of_all(tmp_path: Path, k: int) -> None:
    rows, splits = draw(50, 6), ["train", "test", "train", "val", "train"] * 10
    written(tmp_path, rows, splits)
    photos, queries = opened(tmp_path), draw(9, 6, seed=1)
    train = np.flatnonzero([split == "train" for split in splits])
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, rows[train])]
    cosines = unit[0] @ unit[1].T
    order = np.argsort(-cosines, axis=1)[:, :k]
    found = photos.nearest(queries, k)
    assert photos.paths == [f"{place:05}.png" for place in train]
    assert photos.labels == [f"class {place % 2}" for place in train]
    assert (found.places == order).all()
    assert found.similarities == pytest.approx(np.take_along_axis(cosines, order, axis=1), abs=1e-6)


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("scale", [2000, 12])
def test_familiarity_is_the_fraction_that_lies_as_far_from_its_own_neighbours(
    tmp_path: Path, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_distribution, "SCALE_PHOTOS", scale)
    rows, k = draw(40, 6), 3
    written(tmp_path, rows, ["train"] * 40)
    photos, queries = opened(tmp_path), np.concatenate([draw(5, 6, seed=1), -rows.sum(axis=0, keepdims=True)])
    unit = nearest_neighbours.unit(rows)
    own = unit @ unit.T - 9 * np.eye(40)
    sample = np.linspace(0, 39, min(40, scale)).astype(int)
    kth = np.sort(own, axis=1)[sample, -k]
    cosine = np.sort(nearest_neighbours.unit(queries) @ unit.T, axis=1)[:, -k]
    expected = [((kth <= value).sum(), len(sample)) for value in cosine]
    assert photos.familiarity(photos.nearest(queries, k), k) == expected


def test_what_lies_farther_than_any_training_photo_has_none_and_a_copy_of_the_densest_has_all(tmp_path: Path) -> None:
    rows = np.abs(draw(30, 6))
    rows[:4] = rows[0]
    written(tmp_path, rows, ["train"] * 30)
    photos = opened(tmp_path)
    found = photos.nearest(np.stack([-rows[5], rows[0]]), 3)
    assert [one.score for one in photos.familiarity(found, 3)] == [1 / 31, 1]


@pytest.mark.parametrize(
    ("photos", "asked", "k"), [(4, 50, 3), (4, None, 1), (59, None, 1), (60, None, 2), (400, None, 10), (400, 25, 25)]
)
def test_which_neighbour_counts_follows_the_number_of_photos(
    tmp_path: Path, photos: int, asked: int | None, k: int
) -> None:
    written(tmp_path, draw(photos, 6), ["train"] * photos)
    assert opened(tmp_path).rank(asked) == k


@pytest.mark.parametrize(
    ("farther", "photos", "kind"),
    [
        (0, 20, "uncertain"),  # so few can show of none that it is of another kind
        (5, 20, "familiar"),
        (0, 100, "unlike"),
        (3, 216, "unlike"),  # a cat among ants and bees: 0.0185, which a fixed limit of 0.01 called familiar
        (10, 216, "uncertain"),
        (100, 216, "familiar"),
        (60, 2000, "unlike"),
        (100, 2000, "uncertain"),
    ],
)
def test_a_word_says_no_more_than_so_many_photos_show(farther: int, photos: int, kind: str) -> None:
    assert out_of_distribution.Familiarity(farther, photos).kind == kind


@pytest.mark.parametrize("n", [20, 100, 400])
def test_ordinary_photos_are_seldom_called_unlike_and_others_are_wherever_so_many_photos_can_show_it(
    tmp_path: Path, n: int
) -> None:
    written(tmp_path, draw(n, 6) + 3, ["train"] * n)
    photos = opened(tmp_path)
    k = photos.rank(None)
    ordinary, foreign = (
        [one.kind for one in photos.familiarity(photos.nearest(rows, k), k)]
        for rows in (draw(400, 6, seed=1) + 3, draw(400, 6, seed=2) - 3)
    )
    assert ordinary.count("unlike") <= 0.05 * 400
    assert ordinary.count("familiar") >= 0.6 * 400
    assert foreign.count("unlike") == (0 if n == 20 else 400)
    assert foreign.count("familiar") == 0


def test_of_several_views_the_photo_itself_counts(tmp_path: Path) -> None:
    rows = draw(8, 3, 6)
    written(tmp_path, rows[:, 0], ["train"] * 8)
    with features_file.Features(tmp_path / "features.h5") as plain:
        digests = plain.digests
    fakes.write_views(tmp_path / "features.h5", digests, rows, spec=spec.canonical(SPEC), described={}, of=slice(5))
    found = opened(tmp_path).nearest(rows[:, 0], 1)
    assert found.places[:, 0].tolist() == list(range(8))


def test_maps_are_compared_as_one_row(tmp_path: Path) -> None:
    rows = draw(8, 2, 2, 3)
    written(tmp_path, rows, ["train"] * 8)
    found = opened(tmp_path).nearest(rows.reshape(8, 12), 1)
    assert found.places[:, 0].tolist() == list(range(8))


def test_features_of_another_base_are_refused_and_another_precision_is_a_warning(tmp_path: Path) -> None:
    written(tmp_path, draw(4, 6), ["train"] * 4)
    with pytest.raises(
        SpecError, match=r"another spec than those in .*features\.h5: backbone\.name: expected 'c', received 'b'"
    ):
        opened(tmp_path, SPEC | {"backbone": {"name": "c"}})
    (warning,) = opened(tmp_path, SPEC | {"precision": "bfloat16"}).warnings
    assert "precision: expected 'bfloat16', received 'float32'" in warning


def test_features_of_the_base_are_not_those_of_the_fine_tuned_model(tmp_path: Path) -> None:
    written(tmp_path, draw(4, 6), ["train"] * 4)
    with pytest.raises(SpecError, match=r"`features`: expected features of the fine-tuned model, received .*\.h5"):
        opened(tmp_path, SPEC | {"weights": {"sha256": "0", "finetuned": "1"}})


def test_one_training_photo_is_nothing_to_compare_with(tmp_path: Path) -> None:
    written(tmp_path, draw(4, 6), ["train", "test", "test", "val"])
    with pytest.raises(InputError, match="expected two training photos or more, received 1"):
        opened(tmp_path)
