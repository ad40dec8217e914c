"""What holds for all tests."""

from collections.abc import Iterator

import pytest

from pipeline.backbones import BACKBONES


@pytest.fixture(autouse=True, scope="module")
def table_of_backbones() -> Iterator[None]:
    """A base that a module adds to the table is gone when its tests are over."""
    before = dict(BACKBONES)
    yield
    BACKBONES.clear()  # type: ignore[attr-defined]
    BACKBONES.update(before)  # type: ignore[attr-defined]
