from pathlib import Path

from pipeline.backbones import layer_table
from pipeline.backbones.engines.onnx_graph import OnnxGraph
from pipeline.backbones.layer_table import LayerRow
from pipeline.backbones.scaling import Scaling
from tests import onnx_graphs


def table_of(path: Path) -> list[LayerRow]:
    return layer_table.layer_table(OnnxGraph(path, size=32, scaling=Scaling.of(1.0, 0.0)))


def test_a_graph_is_told_of_as_layers_are(tmp_path: Path) -> None:
    told = table_of(onnx_graphs.maps(tmp_path / "a.onnx"))
    shown = [(row.name, row.output_shape, row.parameters, row.can_cut, row.multiply_adds) for row in told]
    assert shown == [
        ("x", (32, 32, 3), 0, True, 0),
        ("c1", (16, 16, 8), 216, True, 256 * 216),
        ("r1", (16, 16, 8), 0, True, 0),
        ("c2", (8, 8, 6), 432, True, 64 * 432),
        ("r2", (8, 8, 6), 0, True, 0),
        ("g", (6,), 0, True, 0),
        ("y", (6,), 0, True, 0),
    ]
    assert told[-1].multiply_adds_below == 256 * 216 + 64 * 432
    assert [row.name for row in layer_table.rungs(told, blocks=(), most=18)] == ["r1", "r2", "y"]


def test_shapes_that_a_graph_reads_off_are_no_branch_beside_its_data(tmp_path: Path) -> None:
    told = {row.name: row for row in table_of(onnx_graphs.tokens(tmp_path / "a.onnx"))}
    assert "shape" not in told
    assert told["c"].can_cut
    assert told["t"].output_shape == (6, 5)
    assert (told["y"].parameters, told["y"].multiply_adds) == (25, 6 * 5 * 5)
