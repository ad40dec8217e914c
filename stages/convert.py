"""``headstart convert``: an image network of keras-hub as a graph, which ``onnx:FILE`` then makes the base."""

from pathlib import Path

import click

from stages.console import Stage, say, show_table, warn
from stages.options.paths import FILE
from stages.process import only_ours


@click.command(cls=Stage)
@click.argument("preset")
@click.argument("graph", type=FILE)
@click.option("--size", type=click.IntRange(min=1), help="Height and width of the images, px.  [default: the preset's]")
def convert(preset: str, graph: Path, size: int | None) -> None:
    """Write the image network of a PRESET of keras-hub to the ONNX file GRAPH; --backbone onnx:GRAPH then runs it.

    PRESET is a name such as dinov2_small, the folder of a preset, or what keras-hub converts, as hf://facebook/dinov2-small.
    This needs the extra hub, in an environment of its own; what runs the graph needs neither.
    """
    from pipeline.backbones import hub

    with only_ours():
        done = hub.convert(preset, graph, size=size)
    for warning in done.warnings:
        warn(warning)
    show_table(("cut", "output"), [(name, "x".join(map(str, shape))) for name, shape in done.shapes.items()], right={1})
    say()
    say(f"{done.backbone}, images of {done.size} px -> {graph}")


if __name__ == "__main__":
    convert()
