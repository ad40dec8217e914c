"""What an audit found, and how much of it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.confusable import Confusable
from pipeline.audit.label_issues import Issues
from pipeline.audit.outliers import Distances
from pipeline.photos.duplicates.near_duplicates import Pairs
from pipeline.photos.manifest import Manifest

LEARNED_FROM: Final = ("train", "val")


@dataclass(frozen=True)
class Duplicates:
    """Pairs among N images whose bytes differ.

    Attributes
    ----------
    same : Pairs
        The same picture; the nearest first.
    identical : ndarray of shape (len(same),), bool
        Which of these have the same pixels.
    alike : Pairs
        Not the same, but close in their features; the closest first.
    cosines : ndarray of shape (len(same) + len(alike),), float32
        Of the features, centred; first those of `same`.
    groups : ndarray of shape (N,), int
        Images that are the same picture share a number.
    limit : int
        The largest distance of the same picture, in bits.
    """

    same: Pairs
    identical: NDArray[np.bool_]
    alike: Pairs
    cosines: NDArray[np.float32]
    groups: NDArray[np.int64]
    limit: int


@dataclass(frozen=True)
class Findings:
    """All that an audit found.

    Attributes
    ----------
    images : Manifest
        The N images, one for each digest.
    copies : list of (path, row)
        Further files with the bytes of one of these images.
    duplicates : Duplicates
    issues : Issues
    probabilities : ndarray of shape (N, K), float64
        Out of fold.
    judged : ndarray of shape (N,), bool
        Whether they say anything of the image's own class.
    distances : Distances
    confusable : list of Confusable
    """

    images: Manifest
    copies: list[tuple[str, int]]
    duplicates: Duplicates
    issues: Issues
    probabilities: NDArray[np.float64]
    judged: NDArray[np.bool_]
    distances: Distances
    confusable: list[Confusable]

    def leaks(self) -> NDArray[np.bool_]:
        """Say of each pair of the same picture whether one is a test image and the other is learned from."""
        first, second = self._sides(self.images.splits)
        learned = np.isin(first, LEARNED_FROM), np.isin(second, LEARNED_FROM)
        return np.asarray(((first == "test") & learned[1]) | (learned[0] & (second == "test")))

    def contradictions(self) -> NDArray[np.bool_]:
        """Say of each pair of the same picture whether the labels differ."""
        first, second = self._sides(self.images.labels)
        return np.asarray(first != second)

    def counts(self) -> dict[str, int]:
        """Return how many there are of each finding."""
        groups, splits = self.duplicates.groups, np.array(self.images.splits)
        learned, trained = groups[np.isin(splits, LEARNED_FROM)], groups[splits == "train"]
        codes = self.images.codes(self.images.classes)
        labels_of_groups = np.unique(np.stack([groups, codes]), axis=1)
        identical = int(self.duplicates.identical.sum())
        return {
            "images": len(self.images) + len(self.copies),
            "same_bytes": len(self.copies),
            "same_pixels": identical,
            "near_duplicates": len(self.duplicates.same) - identical,
            "alike": len(self.duplicates.alike),
            "leakage": int(np.isin(groups[splits == "test"], learned).sum()),
            "val_leakage": int(np.isin(groups[splits == "val"], trained).sum()),
            "conflicts": int((np.bincount(labels_of_groups[0]) > 1).sum()),
            "label_issues": int(self.issues.confident.sum()),
            "doubtful_labels": int((~self.issues.confident).sum()),
            "labels_not_judged": int((~self.judged).sum()),
            "outliers": int(self.distances.outlying.sum()),
            "inseparable_classes": sum(pair.inseparable for pair in self.confusable),
            "hash_distance": self.duplicates.limit,
        }

    def _sides(self, values: list[str]) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        column = np.array(values)
        return column[self.duplicates.same.first], column[self.duplicates.same.second]
