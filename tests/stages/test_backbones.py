"""``headstart backbones``: the list without TensorFlow, and the layers of one backbone."""

import subprocess
import sys

from click.testing import CliRunner

from pipeline.backbones.table import BACKBONES
from stages.backbones import backbones


def run(*arguments):
    return CliRunner().invoke(backbones, arguments)


def test_list_has_a_line_for_every_backbone():
    lines = run().output.splitlines()
    assert lines[0].split() == ["backbone", "parameters", "size", "features", "width", "multipliers", "offline"]
    assert [line.split()[0] for line in lines[1:]] == list(BACKBONES)
    assert lines[1].split() == ["efficientnet_lite0", "3,413,024", "224", "1280", "yes"]


def test_list_does_not_load_tensorflow():
    program = (
        "import sys; from stages.backbones import backbones; backbones([], standalone_mode=False);"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_layers_of_one_backbone_with_words_for_its_cuts():
    lines = run("vgg16", "--size", "32").output.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert len(lines) == 20
    assert rows["input_layer"] == ["input_layer", "InputLayer", "32x32x3", "0", "0", "0", "image", "0", "12,288"]
    assert rows["block1_conv1"][3:] == ["1,792", "2", "0", "yes", "1,769,472", "262,144"]
    assert rows["block4_pool"][6] == "block-1"
    assert rows["block5_pool"][6] == "top"


def test_a_layer_beside_a_branch_has_no_cut():
    lines = run("mobilenet_v2", "--size", "32", "--alpha", "0.35").output.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["block_2_expand"][:3] == ["block_2_expand", "Conv2D", "8x8x48"]
    assert len(rows["block_2_expand"]) == 6
    assert rows["block_2_add"][6] == "block-14"


def test_columns_are_aligned():
    lines = run("vgg16", "--size", "32").output.splitlines()
    assert len({line.find("Conv2D") for line in lines if "Conv2D" in line}) == 1
    assert len({len(line) for line in lines}) == 1  # bytes stand in the last column, to the right


def test_an_unknown_backbone_is_one_line_and_status_one():
    result = run("vgg_16")
    assert result.exit_code == 1
    assert result.output == "Error: NAME: expected one of 41 names, received 'vgg_16'; did you mean vgg16 or vgg19?\n"
