"""The digests under which rows of earlier versions are cached: the defaults may not change what they name."""

from typing import Any

import pytest

from pipeline.features import spec
from pipeline.features.resolve import plan
from pipeline.features.settings import FeatureSettings

# The decoder belongs to the spec; fixed, so that a new Pillow does not break the test.
DECODER = {"name": "pillow", "version": "13.0.0", "jpeg": "6.2"}


@pytest.mark.parametrize(
    ("chosen", "digest"),
    [
        ({}, "60e3e33236a0c87d"),
        ({"cut": "block-4", "pooling": "none"}, "7cb9359b5acff7d1"),
        ({"backbone": "mobilenet_v2", "weights": "none", "size": 160}, "7783dfc87745b44d"),
    ],
)
def test_a_spec_keeps_the_digest_under_which_its_rows_are_cached(chosen: dict[str, Any], digest: str) -> None:
    described = plan(FeatureSettings(**chosen)).spec
    assert spec.identity({**described, "decoder": DECODER}).startswith(digest)
