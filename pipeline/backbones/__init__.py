"""The pretrained bases: a table of them, their weights, and how to cut one into a trunk."""

from pipeline.backbones.cutting import GRIDS, POOLINGS, cell_weights, cut_points, trunk, trunks
from pipeline.backbones.layer_table import LayerRow, layer_table, rungs
from pipeline.backbones.table import BACKBONES, Backbone, find, resolve_cut
from pipeline.backbones.tails import replayed, tail, topped
from pipeline.backbones.weights import Weights, find_weights, load, offline_path

__all__ = [
    "BACKBONES",
    "GRIDS",
    "POOLINGS",
    "Backbone",
    "LayerRow",
    "Weights",
    "cell_weights",
    "cut_points",
    "find",
    "find_weights",
    "layer_table",
    "load",
    "offline_path",
    "replayed",
    "resolve_cut",
    "rungs",
    "tail",
    "topped",
    "trunk",
    "trunks",
]
