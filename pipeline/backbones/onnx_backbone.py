"""Any network as a base, brought by its user as a graph in an ONNX file: the file is its weights.

So what is kept, found again, carried or refused by the digest of weights is so for a graph, too, and no path stands in
a spec. A graph is computed, and never trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pipeline.backbones import onnx_file
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.scaling import Scaling
from pipeline.errors import CutError, InputError, WeightsError

WORDS = ("image", "top")
IMAGENET = "imagenet"  # what a user who names no weights gets


@dataclass(frozen=True)
class OnnxBackbone(Backbone):
    """The row of all graphs; `settled` makes it the one of a file.

    Attributes
    ----------
    outputs : tuple of str
        Names of the graph's outputs, once its file was read.
    """

    outputs: tuple[str, ...] = ()

    def file(self, weights: str, *, field: str = "backbone") -> Path:
        """Return the path of the graph that a user names, in a field; WeightsError if there is none."""
        path = Path(weights)
        if not path.is_file():
            received = "no file" if weights == IMAGENET else f"{weights!r}, which is not there"
            raise WeightsError.of(field, "onnx:FILE with the path of an ONNX file", received)
        return path

    def settled(
        self,
        path: Path | None,
        *,
        scale: Sequence[float],
        offset: Sequence[float],
        channels: str | None,
        size: int | None = None,
        resize: str | None = None,
        interpolation: str | None = None,
        cut: str = "top",
        **_: Any,
    ) -> Self:
        """Return the row of a file, which is read where a user did not say all: as for `Backbone.settled`.

        InputError if neither the file nor the user says the size of its images or their scale, or the user another
        size.
        """
        if size and scale and offset and channels and resize and interpolation and cut not in WORDS:
            return replace(self, size=size, preprocessing=Scaling.of(scale, offset, channels))
        if path is None:
            raise WeightsError.of("backbone", "onnx:FILE with the path of an ONNX file", None)
        found = onnx_file.describe(path)
        if not (size or found.size):
            raise InputError.of("size", f"the side of its images in px, since {path.name} takes any", None)
        if size and found.size and size != found.size:
            raise InputError.of("size", f"{found.size}, which {path.name} has fixed", size)
        scaling = Scaling.chosen(scale, offset, channels, found.scaling, f"{path.name} does not say how pixels enter")
        cuts = {"image": found.input} | ({"top": found.outputs[0]} if len(found.outputs) == 1 else {})
        own = replace(self, resize=found.resize or self.resize, interpolation=found.interpolation or self.interpolation)
        return replace(own, size=size or found.size or 0, preprocessing=scaling, cuts=cuts, outputs=found.outputs)

    def tensor(self, cut: str) -> str:
        """Return the tensor that a word means; any other name is returned unchanged.

        CutError if the graph of this file has several outputs, and `top` could mean any.
        """
        if cut == "top" and self.cuts and "top" not in self.cuts:
            raise CutError.of("cut", f"one of its outputs, {', '.join(self.outputs)}, or another tensor", repr(cut))
        return self.cuts.get(cut, cut)

    def runs_on(self, engine: str) -> str:
        """Return ``openvino``; InputError for another engine."""
        if engine not in ("auto", "openvino"):
            raise InputError.of("engine", "openvino, which alone runs an ONNX file as the base", engine)
        return "openvino"

    def listed(self, path: Path, *, size: int | None) -> tuple[Self, Any]:
        """Return the row of a file and its graph, to be told of and not run: how pixels enter does not matter."""
        row = self.settled(path, scale=(1.0,), offset=(0.0,), channels="rgb", size=size)
        return row, row.open(path)

    def open(self, path: Path) -> Any:
        """Return the graph of a file, an OnnxGraph; errors as for that."""
        from pipeline.backbones.engines.onnx_graph import OnnxGraph

        scaling = self.preprocessing
        if not isinstance(scaling, Scaling):
            raise InputError.of("input_scale", "a number or three", None)
        return OnnxGraph(path, size=self.size, scaling=scaling)

    def build(self, **_: Any) -> Any:
        """Raise InputError: Keras cannot build it."""
        raise InputError(
            "`backbone`: expected a base of the table: a graph in an ONNX file is computed as it is, and neither "
            "trained, joined to a head by `hs.finetune`, nor written in the formats of Keras"
        )


ONNX = OnnxBackbone("onnx", "", "", size=0, width=0, parameters=0, weights_template="", cuts={}, alphas=(), sizes=())
