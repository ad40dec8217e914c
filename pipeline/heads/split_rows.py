"""The rows of a split with their codes, in memory or read in blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.features.features_file import Features
from pipeline.features.lazy_rows import Selection, not_finite
from pipeline.heads import standardise
from pipeline.heads.standardise import Table
from pipeline.photos.manifest import Manifest
from pipeline.storage.digests import as_keys, find
from pipeline.types import Codes


class SplitRows(NamedTuple):
    """One split: all views of its images to fit on, the images themselves to judge, and the codes of both."""

    rows: Table
    row_codes: Codes
    images: Table
    codes: Codes


def learned_classes(images: Manifest, path: Path) -> list[str]:
    """Return the sorted labels, each of which must occur among the images that are learned from."""
    classes = images.classes
    trained = set(images.learned()[0].labels)
    if len(classes) < 2:
        raise InputError(f"{path}: expected two classes or more, received {', '.join(classes) or 'none'}")
    absent = [label for label in classes if label not in trained]
    if absent:
        raise InputError(
            f"{path}: expected images of each class in the train split, received none of {', '.join(absent)}: "
            "add images, or run `hs.prepare` with `stratify=True`"
        )
    return classes


def require_same_classes(
    in_manifest: Sequence[str], in_head: Sequence[str], manifest_path: Path, trained_dir: Path
) -> None:
    """Raise ArtefactError, which names the others, unless a head or a model knows the classes of the manifest alone."""
    sides = {
        "the manifest": sorted(set(in_manifest) - set(in_head)),
        "the head": sorted(set(in_head) - set(in_manifest)),
    }
    differences = [f"{source} alone has {_listed(labels)}" for source, labels in sides.items() if labels]
    if differences:
        raise ArtefactError(
            f"{trained_dir}: expected a head for the classes of {manifest_path}, received one for others: "
            f"{'; '.join(differences)}; train the head again"
        )


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    return ", ".join(map(repr, labels[:10])) + more


def read_split(images: Manifest, classes: list[str], features: Features, *, streamed: bool, varied: bool) -> SplitRows:
    """Return the rows of a split, in memory or on disk, and the codes of their labels; of all views, if `varied`."""
    codes = images.codes(classes)
    views = features.count if varied else 1
    if streamed:
        places = features.places(images.digests)
        all_views, first = (Selection(features, places, images.paths, views=count) for count in (views, 1))
        return SplitRows(all_views, np.repeat(codes, views), first, codes)
    if not len(images):
        X = np.empty((0, 1, 1), np.float32)
    else:
        X = (features.gather_views if varied else features.gather)(images.digests).reshape(len(images), views, -1)
    row = standardise.first_not_finite(X.reshape(len(X), X.shape[1] * X.shape[2]))
    if row is not None:
        raise not_finite(features, images.paths[row])
    return SplitRows(X.reshape(-1, X.shape[2]), np.repeat(codes, X.shape[1]), X[:, 0], codes)


def views_of(features: Features, learned: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return all views of images to learn from, then those of others, (n, views, d).

    Another image need not have views: it is then there as often itself, so that it weighs as much in a fit.
    """
    varied = find(as_keys(features.varied), others)[1]
    of_others = np.repeat(features.gather(others)[:, None], features.count, 1)
    of_others[varied] = features.gather_views(others[varied])
    X = np.concatenate([features.gather_views(learned), of_others])
    return X.reshape(len(X), features.count, -1)
