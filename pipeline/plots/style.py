"""What all pictures share: the figure and how it is published, colours, and text that is safe to draw.

Colours are those of Okabe and Ito, "Color Universal Design" (2008), which colour-blind people can tell apart; no
picture relies on colour alone.
"""

import contextlib
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.plots.scales import Scale
from pipeline.storage.atomic import published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, FAINT, PAPER = "#222222", "#8A8A8A", "#F0F0F0"
LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"))  # colour and marker
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
CURVES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (INK, "v"), (FAINT, "P"))
ALONG: dict[str, Any] = {"color": FAINT, "backgroundcolor": "white", "zorder": 1}  # words upon a line
DPI = 120
PNG = {"compress_level": 3}  # of photos a third of the time that the usual 6 takes, and 5 % more bytes
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.dpi": DPI,
    "font.size": 9,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
LOGGER = logging.getLogger(__name__)
_MISSING = r"Glyph (\d+) .* missing from"  # as matplotlib warns
_named: set[str] = set()  # scripts whose letters are missing, of which a user was told
# The bundled font knows Latin, Greek and Cyrillic. Labels in other scripts are drawn where the system has one of these.
FALLBACK_FONTS = ("Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans", "Unifont")


@contextlib.contextmanager
def drawing(path: Path, *, width: float, height: float) -> "Iterator[Figure]":
    """Yield a figure of this size in inches; when the block ends, publish it at `path` as PNG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]
    with matplotlib.rc_context(), _missing_glyphs_named():
        matplotlib.rcdefaults()  # a user's own style would change the bytes, a style with TeX would stop the run
        matplotlib.rcParams.update({**STYLE, "font.family": fonts})
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure
        with published(path) as temporary:
            # Without its own metadata, since these would name the version of the drawing library.
            # `savefig` would draw everything twice, once to lay it out.
            canvas.print_png(temporary, metadata={"Software": None}, pil_kwargs=PNG)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _missing_glyphs_named() -> Iterator[None]:
    """Log which script has no font, once, where matplotlib would warn of each letter; other warnings pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_MISSING)
        others = warnings.showwarning

        def show(message: Warning | str, *where: Any, **more: Any) -> None:
            if found := re.match(_MISSING, str(message)):
                _name_missing(chr(int(found[1])))
            else:
                others(message, *where, **more)

        warnings.showwarning = show
        yield


def _name_missing(letter: str) -> None:
    import matplotlib

    script = unicodedata.name(letter, "unknown").split()[0]
    if script not in _named:
        _named.add(script)
        LOGGER.warning(
            "pictures show boxes for letters such as %s: no font has them; install one of %s, and delete %s, where "
            "matplotlib lists the fonts it knows",
            letter,
            ", ".join(FALLBACK_FONTS),
            matplotlib.get_cachedir(),
        )


def undrawn(path: Path) -> None:
    """Remove the picture that stood at `path`: there is nothing to draw now. Its folder is made, as by a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def alone(figure: "Figure") -> "Axes":
    """Return the axes of a figure that has one picture."""
    return figure.add_subplot()


def short(text: str, letters: int) -> str:
    """Shorten `text` to so many letters by cutting its middle out, and make it safe to draw."""
    if len(text) > letters:
        head = (letters - 1) // 2
        text = f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"
    return plain(text)


def plain(text: str) -> str:
    """Return `text` so that it is drawn as it stands: two dollar signs would start a formula."""
    printable = "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return printable.replace("$", r"\$")


def integers(most: int | Literal["auto"] = "auto") -> Any:
    """Return a locator of ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, integer=True, min_n_ticks=1)


def thousands() -> Any:
    """Return a formatter of whole numbers, in groups of three digits."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def scaled(axes: "Axes", which: Literal["x", "y"], scale: Scale, *, most: int = 12) -> None:
    """Give one of the axes a scale, with the numbers that are written at it."""
    kind = {"linear": "linear", "log": "log", "odds": "logit"}[scale.kind]
    axes.set(**{f"{which}scale": kind, f"{which}lim": (scale.low, scale.high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    named = scale.named(most)
    axis.set_ticks([tick for tick, _ in named], [name for _, name in named])
    axis.set_ticks([], minor=True)
