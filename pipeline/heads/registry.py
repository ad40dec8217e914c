"""The table of heads: a new head is one class, one row of `HEADS` and its options."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np

from pipeline.heads.centroid import CentroidHead
from pipeline.heads.dense import DenseHead
from pipeline.heads.head import Head
from pipeline.heads.knn import KnnHead
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.ridge import RidgeHead
from pipeline.heads.settings import PlateauSettings
from pipeline.heads.standardise import Table, blocks
from pipeline.types import Floats

PLATEAU: Final = "plateau"  # the parameter that is a group of settings
HEADS: Final[Mapping[str, type[Head]]] = {
    "logistic": LogisticHead,
    "dense": DenseHead,
    "ridge": RidgeHead,
    "centroid": CentroidHead,
    "knn": KnnHead,
}


def name_of(head: Head) -> str:
    """Return the name under which the head's class stands in `HEADS`."""
    return next(name for name, kind in HEADS.items() if type(head) is kind)


def parameters_of(name: str) -> list[str]:
    """Return the names of the parameters that a kind of head takes, in the order of its class."""
    return [field.name for field in fields(HEADS[name]) if field.init]


def described(head: Head) -> dict[str, Any]:
    """Return the parameters of a head as JSON; those of a plateau only where one is watched for."""
    found = {parameter: getattr(head, parameter) for parameter in parameters_of(name_of(head))}
    plateau = found.pop(PLATEAU, PlateauSettings())
    return found if plateau == PlateauSettings() else found | {PLATEAU: asdict(plateau)}


def unfitted(name: str, params: Mapping[str, Any]) -> Head | None:
    """Return the head whose parameters `described` returned, as JSON keeps them; None if they are those of none."""
    expected = parameters_of(name)
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in params.items()}
    plateau = given.pop(PLATEAU, {})
    if given.keys() != {*expected} - {PLATEAU} or not isinstance(plateau, dict):
        return None
    if plateau:
        if PLATEAU not in expected or plateau.keys() != asdict(PlateauSettings()).keys():
            return None
        given[PLATEAU] = PlateauSettings(**plateau)
    return HEADS[name](**given)


def predict(head: Head, X: Table) -> Floats:
    """Return probabilities (n, K) for the rows of a table, block by block."""
    return np.vstack([head.predict_proba(X[rows]) for rows in blocks(len(X))])
