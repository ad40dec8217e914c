"""The loss over a learning rate that rises from step to step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.plots.scales import Scale, around
from pipeline.plots.style import BLUE, FAINT, VERMILION, alone, drawing, scaled, undrawn


def learning_rates(rows: Sequence[Mapping[str, float]], suggested: float, path: Path) -> None:
    """Draw the loss of each step and its running mean over the learning rate, and mark the one that is suggested.

    A row a step has ``rate``, ``loss`` and ``smoothed``. Without any there is no picture.
    """
    if not rows:
        undrawn(path)
        return
    places, losses, smoothed = ([row[name] for row in rows] for name in ("rate", "loss", "smoothed"))
    with drawing(path, width=7.0, height=4.2) as figure:
        axes = alone(figure)
        axes.plot(places, losses, color=FAINT, linewidth=0.8, label="loss of a step")
        axes.plot(places, smoothed, color=BLUE, label="its running mean")
        axes.axvline(suggested, color=VERMILION, linestyle="--", label=f"suggested: {suggested:.1e}")
        scaled(axes, "x", Scale(min(*places, suggested) / 1.5, max(places) * 1.5, "log"))
        scaled(axes, "y", around([*smoothed, losses[0]], margin=0.15))  # what diverges may leave the picture
        axes.set(xlabel="learning rate", ylabel="loss")
        axes.grid(visible=True)
        axes.legend(fontsize=8, loc="best")
