"""Every picture that the pipeline draws, as PNG files: same input, same bytes.

Nothing here knows where the numbers come from. Each function takes plain numbers, texts and pixels, draws one figure
and publishes it. A figure must stay readable for two classes and for hundreds of them: what does not fit is left out,
and the picture says so.
"""

from pipeline.plots.comparison import ranking
from pipeline.plots.dataset import class_counts, image_sizes
from pipeline.plots.evaluation import Bin, confusion_matrix, intervals, reliability
from pipeline.plots.image_grid import mistakes_grid, pairs_grid, sample_grid, sentence
from pipeline.plots.layer_scores import Contender, Rung, backbones, layers, scored_layers
from pipeline.plots.style import CURVES, DPI, SPLIT_COLOURS
from pipeline.plots.training_curves import growth, learning_curves, search_path

__all__ = [
    "CURVES",
    "DPI",
    "SPLIT_COLOURS",
    "Bin",
    "Contender",
    "Rung",
    "backbones",
    "class_counts",
    "confusion_matrix",
    "growth",
    "image_sizes",
    "intervals",
    "layers",
    "learning_curves",
    "mistakes_grid",
    "pairs_grid",
    "ranking",
    "reliability",
    "sample_grid",
    "scored_layers",
    "search_path",
    "sentence",
]
