"""A head as the model that it is together with its base, for what is made of a model: no file of weights is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbones import cutting
from pipeline.backbones.engines import operations
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.backbones.table import GRAPHS
from pipeline.backbones.weights import load
from pipeline.errors import InputError
from pipeline.features import resolve
from pipeline.heads import store as heads
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense_layers import Stack
from pipeline.heads.head import Head
from pipeline.models import graph, store
from pipeline.models.assemble import flat, head_network, join
from pipeline.models.model import Model
from pipeline.storage.digests import of_file


@dataclass(frozen=True)
class JoinedHead(Model):
    """A head that was read, and its base, which was found again and is built when it is asked for.

    Attributes
    ----------
    identity : str
        sha256 of ``head.json``.
    head : Head
    plan : Plan
        How its features are made here.
    """

    head: Head
    plan: resolve.Plan

    @property
    def joined_from(self) -> str:
        """sha256 of its ``head.json``."""
        return self.identity

    @property
    def started_from(self) -> None:
        """None: it is that head."""
        return

    @property
    def is_listed(self) -> bool:
        """As for `Model.is_listed`; random weights are drawn by Keras."""
        return (is_graph(self.spec) or super().is_listed) and self.plan.weights.path is not None

    def in_onnx(self, ops: OnnxOperations, squares: Any) -> Any:
        """Write the base; as `Model.in_onnx`."""
        spec, backbone = self.plan.spec, self.plan.backbone
        base = self._base(listed=True)
        if cutting.is_graph(base):
            return base.in_onnx(ops, squares, spec["cut"], spec["pooling"])
        cut = cutting.checked_cut(base, backbone.cuts.get(spec["cut"], spec["cut"]))
        (features,) = operations.computed(ops, backbone, base, [(cut, spec["pooling"])], squares)
        return features

    def network(self, *, above: str | None = None, listed: bool = False) -> Any:
        """Build base and head as one network, from pixels alone; else as `Model.network`."""
        stack, trunk = self.stack(), self.trunk(pooling=None, listed=listed)
        if cutting.is_openvino(trunk):
            return graph.joined_to(trunk, stack, temperature=self.temperature)
        return join(flat(trunk), head_network(stack), temperature=self.temperature)

    def trunk(self, *, pooling: str | None, listed: bool = False) -> Any:
        """Build the base up to the features; as `Model.trunk`."""
        spec = self.plan.spec
        base = self._base(listed=listed)
        return cutting.trunk(self.plan.backbone, base, cut=spec["cut"], pooling=pooling or spec["pooling"])

    def _base(self, *, listed: bool) -> Any:
        alpha = self.plan.spec["backbone"]["alpha"]
        return load(self.plan.backbone, size=self.size, alpha=alpha, weights=self.plan.weights, listed=listed)

    def stack(self) -> Stack:
        """Return the head; InputError if it is no map of the features."""
        return self.head.stack()


def is_graph(spec: Mapping[str, Any]) -> bool:
    """Whether the base of a spec is a graph in a file, which is computed and not rebuilt in Keras."""
    return spec["backbone"]["name"] in GRAPHS


def read(directory: Path, *, weights: str | None, cache: Path | None) -> Model:
    """Read a model, or a head as one.

    Parameters
    ----------
    directory : Path
        Written by `pipeline.models.finetuning.finetune.finetune` or `pipeline.heads.train.train`.
    weights : str or None
        Of a head's base, as for `pipeline.features.resolve.plan_again`.
    cache : Path or None
        Where they may be kept.

    Raises
    ------
    InputError
        Weights are named for a model, which has its own; or the head is no map of the features.
    SpecError
        The weights that were named are not those of the head's base.
    ArtefactError
        It is neither, or damaged.
    WeightsError
        The weights of the head's base are nowhere.
    """
    if store.is_model(directory):
        if weights is not None:
            raise InputError.of("weights", f"none, since {directory} is a model", repr(weights))
        return store.read(directory)
    heads.require_head(directory)
    head, record = heads.load(directory)
    head.stack()
    threshold, temperature = thresholds.of_record(record, directory), calibrate.of_record(record, directory)
    plan, _ = resolve.plan_again(record["spec"], directory, resolve.Again(weights, "auto", "float32", cache))
    identity = of_file(directory / heads.HEAD_FILE)
    classes, spec = record["classes"], record["spec"]
    return JoinedHead(directory, classes, threshold, temperature, spec, [], record, identity, head, plan)
