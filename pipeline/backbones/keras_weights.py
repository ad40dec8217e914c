"""Read the arrays of a Keras weights file, and nothing else: no model is deserialised, no object unpickled.

Three layouts are HDF5 files; a ``.keras`` file is a zip archive that holds one of them:

* *layer groups*: what Keras 2 and ``model.save("….h5")`` write. A group lists its layers and their arrays in order,
  in the attributes ``layer_names`` and ``weight_names``. In a whole model it is called ``model_weights``, and a
  nested model counts as one layer.
* *containers*: what Keras 3 writes (``.weights.h5``, and ``model.weights.h5`` inside ``.keras``). A group ``layers``
  holds a group a layer, named by class and rank (``conv2d``, ``conv2d_1``, …), whose ``vars`` are numbered; nested
  models nest.

A base is looked for wherever it can be: as the whole file, as the lower part of a flat model, or as a nested model.
It is found where the arrays of *every* layer have the expected shapes in the expected order.

Nothing is read whose shape is not the expected one.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import layer_graph, weights_file
from pipeline.backbones.builder import automatic_number, snake_case
from pipeline.errors import StorageError, WeightsError
from pipeline.wording import one_line

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second: the name used by Keras 2.13


@dataclass(frozen=True)
class Mismatch:
    """Why a place in the file is not the base: after `matched` layers that fit, one that does not."""

    matched: int
    message: str


Pairs = list[tuple[Any, list[h5py.Dataset]]]
"""Each layer of the base with its arrays in the file, in the order of ``layer.weights``."""


def read(path: Path, base: Any) -> list[tuple[Any, list[NDArray[Any]]]]:
    """Find a base in a weights file and read its arrays.

    Parameters
    ----------
    path : Path
        ``…_notop.h5`` of Keras, ``.weights.h5``, or a whole model as ``.h5`` or ``.keras``.
    base : keras.Model or Network
        With weights of the right shapes.

    Returns
    -------
    list of (layer, list of ndarray)
        The layers with weights, nested ones included, and the values for ``layer.weights``.

    Raises
    ------
    WeightsError
        If the file is damaged, refers to other files, or does not hold this network; then the message names the
        first layer that does not fit, with the expected and the received shapes.
    """
    try:
        with weights_file.opened(path) as file:
            return [(layer, [np.asarray(array[()]) for array in arrays]) for layer, arrays in _match(file, base)]
    except StorageError:
        raise
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:
        # What h5py and zipfile raise for a damaged file, or one made to confuse, depends on the byte that is wrong.
        reason = one_line(error) or type(error).__name__
        raise WeightsError(
            f"{path}: expected a Keras weights file, received one that cannot be read: {reason}"
        ) from error


def _match(file: h5py.File, base: Any) -> Pairs:
    best = Mismatch(-1, "expected the layers of a network, received neither layer_names nor a group of layers")
    for found in itertools.chain(_in_layer_groups(file, base), _in_containers(file, base)):
        if not isinstance(found, Mismatch):
            return found
        best = max(best, found, key=lambda mismatch: mismatch.matched)
    raise WeightsError(best.message)


# --- Layer groups: Keras 2 and legacy whole models ----------------------------------------------------------------


def _in_layer_groups(file: h5py.File, base: Any) -> Iterator[Pairs | Mismatch]:
    for group in (file, file.get("model_weights")):
        if isinstance(group, h5py.Group) and _has_names(group, "layer_names"):
            stored = [(name, weights) for name, weights in _stored(group) if weights]
            yield from _flat(stored, base)
            for name, weights in stored:
                if len(weights) == len(base.weights):
                    yield _nested(name, weights, base)


def _stored(group: h5py.Group) -> list[tuple[str, list[tuple[str, h5py.Dataset]]]]:
    """List the layers of a group with their arrays; several names may lead to one layer, but not without end."""
    stored, count = [], 0
    for name in _names(group, "layer_names"):
        layer = group[name]
        weights = _names(layer, "weight_names")
        count += len(weights)
        if count > weights_file.MAX_OBJECTS:
            raise WeightsError(f"expected weights, received more than {weights_file.MAX_OBJECTS:,} arrays")
        stored.append((name, [(weight, layer[weight]) for weight in weights]))
    return stored


def _flat(stored: Sequence[tuple[str, list[tuple[str, h5py.Dataset]]]], base: Any) -> Iterator[Pairs | Mismatch]:
    """Compare layer by layer, as Keras does, starting at each stored layer: others may come before and after."""
    expected = [layer for layer in base.layers if layer.weights]
    for start in range(max(1, len(stored) - len(expected) + 1)):
        candidates = [
            (name, [array for _, array in weights]) for name, weights in stored[start : start + len(expected)]
        ]
        yield _compare(expected, candidates)


def _nested(name: str, weights: Sequence[tuple[str, h5py.Dataset]], base: Any) -> Pairs | Mismatch:
    """Compare by the layers' names: what is trainable comes first, so the order depends on what was frozen."""
    owners: dict[str, list[h5py.Dataset]] = {}
    for weight, array in weights:
        owners.setdefault(weight.split("/")[-2] if "/" in weight else weight, []).append(array)
    expected = [layer for layer in layer_graph.leaves(base) if layer.weights]
    owners = _renumbered(owners, {snake_case(layer_graph.kind(layer)) for layer in expected})
    missing = [layer.name for layer in expected if layer.name not in owners]
    if missing:
        return Mismatch(
            len(expected) - len(missing), f"layer {missing[0]}: expected its arrays, received none in {name}"
        )
    return _compare(expected, [(layer.name, owners[layer.name]) for layer in expected])


def _renumbered(owners: dict[str, list[h5py.Dataset]], prefixes: set[str]) -> dict[str, list[h5py.Dataset]]:
    """Count automatic names from 0, as `builder.name_layers` does for the base."""
    renamed = dict(owners)
    for prefix in prefixes:
        numbers = {name: automatic_number(name, prefix) for name in owners}
        ranked = sorted((number, name) for name, number in numbers.items() if number is not None)
        for _, name in ranked:
            del renamed[name]
        renamed |= {f"{prefix}_{rank}" if rank else prefix: owners[name] for rank, (_, name) in enumerate(ranked)}
    return renamed


def _has_names(group: h5py.Group, attribute: str) -> bool:
    return attribute in group.attrs or f"{attribute}0" in group.attrs


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Read a list of names, which Keras spreads over numbered attributes if it is long."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        numbered = (f"{attribute}{number}" for number in itertools.count())
        parts = [group.attrs[name] for name in itertools.takewhile(lambda name: name in group.attrs, numbered)]
    if sum(map(len, parts)) > weights_file.MAX_OBJECTS:
        raise WeightsError(f"expected weights, received more than {weights_file.MAX_OBJECTS:,} names in {attribute}")
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


# --- Containers: Keras 3 ------------------------------------------------------------------------------------------


def _in_containers(file: h5py.File, base: Any) -> Iterator[Pairs | Mismatch]:
    groups: list[h5py.Group] = [file["/"]]
    file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None)
    for group in groups:
        container = next((group[name] for name in CONTAINERS if isinstance(group.get(name), h5py.Group)), None)
        if container is not None:
            yield _contained(container, base)


def _contained(container: h5py.Group, base: Any) -> Pairs | Mismatch:
    """Compare class by class: the n-th layer of a class with weights is the n-th group of that class with arrays."""
    stored: dict[str, list[h5py.Group]] = {}
    pairs: Pairs = []
    for layer in layer_graph.functional(base).layers:
        prefix = snake_case(layer_graph.kind(layer))
        if not layer.weights:
            continue
        if prefix not in stored:
            stored[prefix] = _groups_of_class(container, prefix)
        group = stored[prefix].pop(0) if stored[prefix] else None
        found = _one(layer, group)
        if isinstance(found, Mismatch):
            return Mismatch(len(pairs) + found.matched, found.message)
        pairs += found
    return pairs


def _one(layer: Any, group: h5py.Group | None) -> Pairs | Mismatch:
    if group is None:
        return Mismatch(0, f"layer {layer.name}: expected its arrays, received none")
    if layer_graph.is_nested(layer):
        inner = next((group[name] for name in CONTAINERS if name in group), None)
        return (
            Mismatch(0, f"layer {layer.name}: expected a nested model") if inner is None else _contained(inner, layer)
        )
    return _compare([layer], [(group.name, _variables(group))])


def _groups_of_class(container: h5py.Group, prefix: str) -> list[h5py.Group]:
    """List the groups named after a class that hold arrays, in the order of their numbers."""
    numbered = ((automatic_number(name, prefix), container[name]) for name in container)
    ranked = sorted(
        ((number, group) for number, group in numbered if number is not None and isinstance(group, h5py.Group)),
        key=lambda pair: pair[0],
    )
    return [group for _, group in ranked if _variables(group) or any(name in group for name in CONTAINERS)]


def _variables(group: h5py.Group) -> list[h5py.Dataset]:
    variables = group.get("vars")
    if not isinstance(variables, h5py.Group):
        return []
    return [variables[name] for name in sorted(variables, key=lambda name: int(name) if name.isdecimal() else -1)]


# --- Both ---------------------------------------------------------------------------------------------------------


def _compare(expected: Sequence[Any], stored: Sequence[tuple[str, list[h5py.Dataset]]]) -> Pairs | Mismatch:
    """Pair layers with arrays one by one; stop at the first whose shapes or types differ."""
    pairs: Pairs = []
    for number, layer in enumerate(expected):
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if number == len(stored):
            return Mismatch(number, f"layer {layer.name}: expected arrays of shapes {shapes}, received none")
        name, arrays = stored[number]
        received = [getattr(array, "shape", None) for array in arrays]
        if received != shapes:
            return Mismatch(
                number, f"layer {layer.name}: expected arrays of shapes {shapes}, received {received} ({name})"
            )
        kinds = {array.dtype.kind for array in arrays}
        if not kinds <= set("fiu"):
            return Mismatch(number, f"layer {layer.name}: expected numbers, received {[str(a.dtype) for a in arrays]}")
        pairs.append((layer, arrays))
    return pairs
