"""Rows read from the file when they are asked for are those that a gather returns."""

import numpy as np
import pytest

from pipeline.errors import ArtefactError
from pipeline.features import features_file, lazy_rows
from pipeline.features.lazy_rows import Selection
from tests import fakes
from tests.heads.selection.test_grid_search import digests

ORDERED = np.stack(sorted(digests(60), key=bytes))


def write(path, rows, views=None):
    if views:
        fakes.write_views(path, ORDERED, rows, spec="{}", described={}, of=np.union1d(CHOSEN, [1, 20]))
    else:
        shape = rows.shape[1:]
        features_file.write(path, spec="{}", digests=ORDERED, row_shape=shape, dtype="float32", blocks=[rows])
    return features_file.Features(path)


def rows_of(*shape):
    return np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)


@pytest.fixture(params=[2**26, 100, 1])
def read_bytes(request, monkeypatch):
    monkeypatch.setattr(lazy_rows, "READ_BYTES", request.param)


CHOSEN = np.array([0, 3, 4, 5, 17, 30, 58, 59])
NAMES = [f"{place}.png" for place in CHOSEN]


def test_a_slice_is_the_rows_of_the_images_chosen(tmp_path, read_bytes):
    rows = rows_of(2, 3)
    with write(tmp_path / "features.h5", rows) as file:
        table = Selection(file, file.places(ORDERED[CHOSEN]), NAMES, views=1)
        assert (len(table), table.shape, table.dtype) == (8, (8, 6), np.float32)
        flat = rows[CHOSEN].reshape(8, 6)
        for start, stop in ((0, 8), (2, 5), (7, 20), (3, 3)):
            np.testing.assert_array_equal(table[start:stop], flat[start:stop])


def test_all_views_of_an_image_are_rows_that_stand_together(tmp_path, read_bytes):
    rows = rows_of(3, 4)
    with write(tmp_path / "features.h5", rows, views=3) as file:
        every, first = (Selection(file, file.places(ORDERED[CHOSEN]), NAMES, views=count) for count in (3, 1))
        np.testing.assert_array_equal(every[0:24], rows[CHOSEN].reshape(24, 4))
        np.testing.assert_array_equal(every[4:11], rows[CHOSEN].reshape(24, 4)[4:11])
        np.testing.assert_array_equal(first[1:3], rows[CHOSEN[1:3], 0])


def test_a_part_holds_whole_images(tmp_path):
    rows = rows_of(2, 4)
    with write(tmp_path / "features.h5", rows, views=2) as file:
        table = Selection(file, file.places(ORDERED[CHOSEN]), NAMES, views=2)
        part = table.take(np.array([2, 3, 8, 9]))
        np.testing.assert_array_equal(part[0:4], rows[[3, 17]].reshape(4, 4))
        with pytest.raises(ValueError, match="all views"):
            table.take(np.array([2, 3, 8]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_its_image(tmp_path, bad):
    rows = rows_of(5)
    rows[17, 3] = bad
    with write(tmp_path / "features.h5", rows) as file:
        table = Selection(file, file.places(ORDERED[CHOSEN]), NAMES, views=1)
        table[0:4]
        with pytest.raises(ArtefactError, match=r"features\.h5: .* NaN or infinity for 17\.png: "):
            table[2:8]


def test_an_image_without_a_row_is_an_error_at_once(tmp_path):
    with write(tmp_path / "features.h5", rows_of(5)) as file, pytest.raises(ArtefactError, match="have no row"):
        Selection(file, file.places(digests(61)[60:]), ["new.png"], views=1)
