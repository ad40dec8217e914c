"""How learning went: over epochs, over the candidates of a search, over the number of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.image_grid import sentence
from pipeline.plots.style import BLUE, CURVES, FAINT, INK, VERMILION, alone, drawing, integers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curves(history: Sequence[Mapping[str, float | None]], path: Path) -> None:
    """Draw loss and accuracy over the epochs, training and validation, and mark the epoch of least validation loss.

    Parameters
    ----------
    history : sequence of mapping
        One row an epoch with the keys ``epoch``, ``loss``, ``accuracy`` and, where there was a validation split,
        ``val_loss`` and ``val_accuracy``. A missing value (absent, None or not a number) leaves a gap. Without any
        row the picture is a sentence that says so.
    path : Path
        The PNG file to publish.
    """
    if not history:
        sentence("This head learns without epochs: there are no curves to draw", path)
        return
    epochs = _series(history, "epoch")
    val_loss = _series(history, "val_loss")
    best = int(np.nanargmin(val_loss)) if np.isfinite(val_loss).any() else None
    with drawing(path, width=9.0, height=3.6) as figure:
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            training, validation = _series(history, name), _series(history, f"val_{name}")
            marker = "o" if len(epochs) <= 30 else None
            axes.plot(epochs, training, color=BLUE, marker=marker, markersize=3.5, label="training")
            if np.isfinite(validation).any():
                axes.plot(epochs, validation, "--", color=VERMILION, marker=marker, markersize=3.5, label="validation")
            if best is not None and np.isfinite(validation[best]):
                axes.axvline(epochs[best], color=FAINT, linewidth=0.8, linestyle=":")
                axes.plot(epochs[best], validation[best], "D", color=VERMILION, markersize=6, zorder=3)
                axes.set_title(f"{name}: validation {validation[best]:.4f} at epoch {epochs[best]:,.0f}")
            else:
                axes.set_title(name)
            both = np.concatenate([training, validation])
            both = both[np.isfinite(both)]
            if name == "loss" and both.size and both.min() > 0 and both.max() > 50 * both.min():
                axes.set_yscale("log")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(integers())
            axes.grid(visible=True)
            axes.legend(fontsize=8, loc="best")


def search_path(
    params: Sequence[Mapping[str, Any]],
    scores: NDArray[np.float64],
    *,
    best: int,
    chosen: int,
    path: Path,
    title: str,
) -> None:
    """Draw the losses of a search with one standard error either way, and which candidate was chosen.

    The first parameter that is a number and has more than two values is the abscissa, logarithmic where all of them
    are above 0; candidates that differ in the others are curves of their own. Where there is no such parameter, or more
    than six curves, the candidates stand in a row, from the simplest.

    Parameters
    ----------
    params : sequence of mapping
        Of each candidate, from the simplest; all have the same names.
    scores : ndarray of shape (candidates, 3)
        Loss in nats, its standard error, accuracy.
    best, chosen : int
        Places of the candidate of least loss, and of the one that was chosen.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the picture.
    """
    name = next((name for name in params[0] if _is_strength([one[name] for one in params])), None)
    rest = [", ".join(f"{key} {_value(one[key])}" for key in one if key != name) for one in params]
    if name is None or len(set(rest)) > len(CURVES):
        name, rest, places = None, [""] * len(params), np.arange(1.0, len(params) + 1)
    else:
        places = np.array([one[name] for one in params], dtype=np.float64)
    with drawing(path, width=8.0, height=4.4) as figure:
        axes = alone(figure)
        for label, (colour, marker) in zip(dict.fromkeys(rest), CURVES, strict=False):
            curve = np.array([place for place, own in enumerate(rest) if own == label])
            curve = curve[np.argsort(places[curve], kind="stable")]
            axes.errorbar(
                places[curve],
                scores[curve, 0],
                yerr=scores[curve, 1],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2 if name else 0,
                elinewidth=1,
                capsize=2,
                label=label or None,
            )
        limit = scores[best, 0] + scores[best, 1]
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle=":", label="one standard error above the least")
        ring: dict[str, Any] = {
            "markersize": 11,
            "markerfacecolor": "none",
            "markeredgewidth": 1.6,
            "linestyle": "none",
            "zorder": 4,
        }
        axes.plot(places[best], scores[best, 0], "s", color=FAINT, label="least loss", **ring)
        axes.plot(places[chosen], scores[chosen, 0], "o", color=VERMILION, label="chosen", **ring)
        finite = scores[np.isfinite(scores[:, 0]), 0]
        if finite.min() > 0 and finite.max() > 5 * finite.min():
            _set_logarithmic(axes)
        if name and places.min() > 0:
            axes.set_xscale("log")
        axes.set(ylabel="loss on images held out (nats)")
        axes.set_xlabel(name or "candidates, from the simplest")
        if name is None:
            axes.xaxis.set_major_locator(integers())
        axes.grid(visible=True)
        what = ", ".join(f"{key} {_value(value)}" for key, value in params[chosen].items())
        axes.set_title(f"{title}\nchosen: {short(what, 80)}; accuracy {scores[chosen, 2]:.4f}")
        axes.legend(fontsize=8, loc="best")


def _set_logarithmic(axes: "Axes") -> None:
    """Make the ordinate logarithmic, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _is_strength(values: Sequence[Any]) -> bool:
    return len(set(values)) > 2 and all(isinstance(value, int | float) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def growth(
    points: Sequence[tuple[float, float, float, float]],
    forecast: tuple[float, float, float, float],
    curve: Sequence[tuple[float, float]],
    path: Path,
) -> None:
    """Draw accuracy over the number of training images, and a forecast beyond the last, with their intervals.

    Parameters
    ----------
    points : sequence of (images, accuracy, low, high)
        What was measured, ascending.
    forecast : (images, accuracy, low, high)
    curve : sequence of (images, accuracy)
        What was fitted.
    path : Path
        The PNG file to publish.
    """
    with drawing(path, width=7.0, height=4.2) as figure:
        axes = alone(figure)
        x, y = zip(*curve, strict=True)
        axes.plot(x, y, color=FAINT, linewidth=1, label="fitted power law", zorder=1)
        for values, colour, marker, label in (
            (np.array(points), BLUE, "o", "measured, 95 % interval"),
            (np.array([forecast]), VERMILION, "D", f"forecast for {forecast[0]:,.0f}"),
        ):
            axes.vlines(values[:, 0], values[:, 2], values[:, 3], color=colour, linewidth=2, alpha=0.55)
            axes.plot(values[:, 0], values[:, 1], marker, color=colour, markersize=5, label=label)
        axes.set_xscale("log", base=2)
        ticks = [point[0] for point in points] + [forecast[0]]
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=45, ha="right")
        axes.minorticks_off()
        axes.set(xlabel="training images", ylabel="accuracy")
        axes.grid(visible=True)
        axes.legend(loc="lower right", fontsize=8)


def _series(history: Sequence[Mapping[str, float | None]], name: str) -> NDArray[np.float64]:
    return np.array([row.get(name) for row in history], dtype=np.float64)  # None becomes NaN
