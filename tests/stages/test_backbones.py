"""``headstart backbones``: the list without TensorFlow, and the layers of one backbone."""

import pytest
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


def test_layers_of_one_backbone_with_words_for_its_cuts():
    lines = run("vgg16", "--size", "32").output.splitlines()
    rows = {line.split()[1]: line.split()[1:] for line in lines[:20]}
    assert [line.split()[0] for line in lines[1:20]] == [str(index) for index in range(19)]
    assert rows["input_layer"] == ["input_layer", "InputLayer", "32x32x3", "0", "0", "0", "image", "0", "12,288"]
    assert rows["block1_conv1"][3:] == ["1,792", "2", "0", "yes", "1,769,472", "262,144"]
    assert rows["block4_pool"][6] == "block-1"
    assert rows["block5_pool"][6] == "top"


def test_a_layer_beside_a_branch_has_no_cut():
    lines = run("mobilenet_v2", "--size", "32", "--alpha", "0.35").output.splitlines()
    rows = {line.split()[1]: line.split()[1:] for line in lines if line}
    assert rows["block_2_expand"][:3] == ["block_2_expand", "Conv2D", "8x8x48"]
    assert len(rows["block_2_expand"]) == 6
    assert rows["block_2_add"][6] == "block-14"


def test_columns_are_aligned():
    lines = run("vgg16", "--size", "32").output.splitlines()[:20]
    assert len({line.find("Conv2D") for line in lines if "Conv2D" in line}) == 1
    assert len({len(line) for line in lines}) == 1  # bytes stand in the last column, to the right


@pytest.mark.parametrize(
    ("options", "layers", "trainable", "frozen"),
    [
        ((), 19, (26, 14_714_688), (0, 0)),
        (("--cut", "block-1"), 19, (6, 7_079_424), (20, 7_635_264)),
        (("--cut", "14"), 19, (6, 7_079_424), (20, 7_635_264)),
        (("--freeze", "block1_conv2,block4_conv3"), 19, (22, 12_317_952), (4, 2_396_736)),
        (("--top", "--size", "224"), 23, (32, 138_357_544), (0, 0)),
        (("--top", "--size", "224", "--freeze", "block1_conv2,block4_conv3"), 23, (28, 135_960_808), (4, 2_396_736)),
    ],
)
def test_the_totals_count_arrays_and_numbers_that_train(
    options: tuple[str, ...], layers: int, trainable: tuple[int, int], frozen: tuple[int, int]
) -> None:
    *_, first, second, third = run("vgg16", "--size", "32", *options).output.splitlines()
    assert first == f"{layers} layers, {trainable[1] + frozen[1]:,} parameters"
    for line, word, (arrays, numbers) in ((second, "trainable", trainable), (third, "frozen", frozen)):
        assert line == f"{word}: {arrays} weight arrays, {numbers:,} numbers"


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (
            "vgg16",
            ("--cut", "19"),
            "Error: --cut: expected an index from 0 to 18, as `headstart backbones`",
        ),
        ("mobilenet_v2", ("--cut", "100"), "received 'block_11_expand_relu', which lies beside a branch; the nearest"),
        ("vgg16", ("--freeze", "block1_conv9"), "did you mean block1_conv2 or block1_conv1"),
        ("vgg16", ("--freeze", "block1_pool"), "expected layers with weights, of which there are 13"),
    ],
)
def test_what_is_no_layer_is_one_line(name: str, options: tuple[str, ...], told: str) -> None:
    result = run(name, "--size", "32", *options)
    assert result.exit_code == 1
    assert told in result.output
    assert result.output.count("\n") == 1


def test_an_unknown_backbone_is_one_line_and_status_one():
    result = run("vgg_16")
    assert result.exit_code == 1
    assert result.output == "Error: NAME: expected one of 43 names, received 'vgg_16'; did you mean vgg16 or vgg19?\n"
