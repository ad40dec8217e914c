"""List the pretrained bases, or the layers of one."""

from collections.abc import Sequence
from typing import Final

import click

from pipeline.backbones import builder, layer_table
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.layer_table import LayerRow
from pipeline.backbones.onnx_backbone import OnnxBackbone
from pipeline.backbones.settings import graph_file
from pipeline.backbones.table import BACKBONES, find, resolve_cut
from pipeline.backbones.weights import offline_path
from pipeline.errors import InputError, SettingError
from pipeline.wording import counted
from stages.console import Stage, say, show_table
from stages.options.of_settings import given
from stages.options.param_types import names

HEADER: Final = (
    "index",
    "layer",
    "kind",
    "output",
    "parameters",
    "trainable",
    "frozen",
    "cut",
    "multiply-adds",
    "bytes",
)
OF_ONE: Final = ("size", "alpha", "cut", "freeze", "top")


@click.command(cls=Stage)
@click.argument("name", required=False)
@click.option(
    "--size", type=click.IntRange(min=1), help="Height and width of the base's input, px.  [default: the backbone's]"
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier, where there is one.")
@click.option("--cut", help="Count the layers up to this cut as frozen, as fine-tuning does.")
@click.option("--freeze", callback=names, default="none", help="Count these layers as frozen, too, as in A,B.")
@click.option("--top", is_flag=True, help="Put ImageNet's classifier of 1,000 classes on the base.")
def backbones(
    name: str | None, size: int | None, alpha: float, cut: str | None, freeze: tuple[str, ...], top: bool
) -> None:
    """List the pretrained bases, or the layers of the base NAME: where it can be cut, what that costs, what trains.

    NAME may be onnx:FILE, a graph, of which the tensors are listed; --cut may name any of them.
    """
    if name is None:
        if idle := [option for option in OF_ONE if option in given()]:
            raise SettingError(f"`{idle[0]}`: expected with the NAME of a base, received none")
        header = ("backbone", "parameters", "size", "features", "width multipliers", "offline")
        show_table(header, [_summary(backbone) for backbone in BACKBONES.values()], right={1, 2, 3})
        return
    backbone = _found(name)
    if isinstance(backbone, OnnxBackbone):
        if idle := [option for option in OF_ONE[1:] if option in given()]:
            raise SettingError(f"`{idle[0]}`: expected with a base of the table, received it with {name}")
        backbone, base = backbone.listed(backbone.file(name.partition(":")[2]), size=size)
    else:
        side = size or backbone.size
        base = builder.build(backbone, size=side, alpha=alpha, seed=0, top=top, listed=True, empty=True)
        layer_table.freeze(base, up_to=resolve_cut(backbone, cut) if cut else None, names=freeze)
    table = layer_table.layer_table(base)
    words = {layer: word for word, layer in backbone.cuts.items()}
    show_table(HEADER, [_layer(row, words.get(row.name, "yes")) for row in table], right={0, 3, 4, 5, 6, 8, 9})
    say()
    for line in _totals(table):
        say(line)


def _found(name: str) -> Backbone:
    try:
        return find((graph_file(name) or (name, ""))[0])
    except InputError as error:
        raise InputError(f"NAME: expected {error.expected}, received {error.received}") from error


def _summary(backbone: Backbone) -> Sequence[str]:
    offline = offline_path(backbone, size=backbone.size, alpha=1.0) is not None
    alphas = " ".join(f"{alpha:g}" for alpha in backbone.alphas)
    numbers = (f"{backbone.parameters:,}", str(backbone.size), str(backbone.width))
    return (backbone.name, *numbers, alphas, "yes" if offline else "no")


def _layer(row: LayerRow, word: str) -> Sequence[str]:
    return (
        "" if row.index is None else str(row.index),
        row.name,
        row.kind,
        "x".join(str(side) for side in row.output_shape),
        f"{row.parameters:,}",
        str(row.trainable),
        str(row.frozen),
        *_cut(row, word),
    )


def _totals(table: Sequence[LayerRow]) -> list[str]:
    parameters, trained = (sum(getattr(row, name) for row in table) for name in ("parameters", "trained"))
    arrays, fixed = (sum(getattr(row, name) for row in table) for name in ("trainable", "frozen"))
    return [
        f"{counted(len(table), 'layer')}, {counted(parameters, 'parameter')}",
        f"trainable: {counted(arrays, 'weight array')}, {counted(trained, 'number')}",
        f"frozen: {counted(fixed, 'weight array')}, {counted(parameters - trained, 'number')}",
    ]


def _cut(row: LayerRow, word: str) -> Sequence[str]:
    """Word for the cut, multiply-adds below it, bytes of an image there; nothing where the network cannot be cut."""
    return (word, f"{row.multiply_adds_below:,}", f"{row.bytes:,}") if row.can_cut else ("", "", "")


if __name__ == "__main__":
    backbones()
