"""List the pretrained bases, or the layers of one."""

from collections.abc import Iterable, Iterator, Sequence

import click

from pipeline.backbones import layer_table
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.layer_table import LayerRow
from pipeline.backbones.table import BACKBONES, find
from pipeline.backbones.weights import find_weights, load, offline_path
from pipeline.errors import InputError, SettingError
from stages.console import Stage, show_table
from stages.options.of_settings import given


@click.command(cls=Stage)
@click.argument("name", required=False)
@click.option(
    "--size", type=click.IntRange(min=1), help="Height and width of the base's input, px.  [default: the backbone's]"
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier, where there is one.")
def backbones(name: str | None, size: int | None, alpha: float) -> None:
    """List the pretrained bases, or the layers of the base NAME: where it can be cut, and what that costs."""
    if name is None and (idle := {"size", "alpha"} & given()):
        raise SettingError(f"`{min(idle)}`: expected with the NAME of a base, received none")
    if name is None:
        rows: Iterable[Sequence[str]] = (_summary(backbone) for backbone in BACKBONES.values())
        header: Sequence[str] = ("backbone", "parameters", "size", "features", "width multipliers", "offline")
        right = {1, 2, 3}
    else:
        rows = _layers(_found(name), size, alpha)
        header = ("layer", "kind", "output", "parameters", "trainable", "frozen", "cut", "multiply-adds", "bytes")
        right = {2, 3, 4, 5, 7, 8}
    show_table(header, list(rows), right=right)


def _found(name: str) -> Backbone:
    try:
        return find(name)
    except InputError as error:
        raise InputError(f"NAME: expected {error.expected}, received {error.received}") from error


def _summary(backbone: Backbone) -> Sequence[str]:
    offline = offline_path(backbone, size=backbone.size, alpha=1.0) is not None
    alphas = " ".join(f"{alpha:g}" for alpha in backbone.alphas)
    numbers = (f"{backbone.parameters:,}", str(backbone.size), str(backbone.width))
    return (backbone.name, *numbers, alphas, "yes" if offline else "no")


def _layers(backbone: Backbone, size: int | None, alpha: float) -> Iterator[Sequence[str]]:
    size = size or backbone.size
    weights = find_weights(backbone, "none", size=size, alpha=alpha, seed=0)
    table = layer_table.layer_table(load(backbone, size=size, alpha=alpha, weights=weights))
    words = {layer: word for word, layer in backbone.cuts.items()}
    for row in table:
        yield (
            row.name,
            row.kind,
            "x".join(str(side) for side in row.output_shape),
            f"{row.parameters:,}",
            str(row.trainable),
            str(row.frozen),
            *_cut(row, words.get(row.name, "yes")),
        )


def _cut(row: LayerRow, word: str) -> Sequence[str]:
    """Word for the cut, multiply-adds below it, bytes of an image there; nothing where the network cannot be cut."""
    return (word, f"{row.multiply_adds_below:,}", f"{row.bytes:,}") if row.can_cut else ("", "", "")


if __name__ == "__main__":
    backbones()
