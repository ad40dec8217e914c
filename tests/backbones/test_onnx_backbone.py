import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.backbones import graph_notes, onnx_file, table
from pipeline.backbones.scaling import Scaling
from pipeline.errors import HeadstartError, InputError, SettingError
from pipeline.features import resolve
from pipeline.features.probe.probe import bases_of
from pipeline.features.settings import BaseSettings, FeatureSettings, ProbeSettings
from pipeline.photos.settings import Geometry, Interpolation
from tests import onnx_graphs

FULL = {"input_scale": (0.01,), "input_offset": (0.0,)}


def spec_of(path, **chosen):
    return resolve.plan(FeatureSettings(backbone=f"onnx:{path}", **chosen)).spec


def test_a_spec_names_the_digest_and_no_path(tmp_path):
    path = onnx_graphs.maps(tmp_path / "secret.onnx")
    spec = spec_of(path, input_scale=onnx_graphs.SCALE, input_offset=onnx_graphs.OFFSET, channels="bgr")
    assert spec["backbone"] == {"name": "onnx", "alpha": 1.0}
    assert set(spec["weights"]) == {"sha256"}
    assert spec["preprocessing"] == {
        "scale": list(onnx_graphs.SCALE),
        "offset": list(onnx_graphs.OFFSET),
        "channels": "bgr",
    }
    assert (spec["size"], spec["cut"], spec["pooling"]) == (32, "y", "avg")
    assert "secret" not in str(spec)


def test_numbers_take_the_place_of_the_preprocessing_of_a_table_base_and_stand_in_the_spec_only_then():
    plain = resolve.plan(FeatureSettings(backbone="mobilenet_v2", weights="none"))
    assert plain.spec["preprocessing"] == "keras.applications.mobilenet_v2:preprocess_input"
    plan = resolve.plan(
        FeatureSettings(
            backbone="mobilenet_v2", weights="none", input_scale=(1 / 255,), input_offset=(0, 1, 2), channels="bgr"
        )
    )
    assert plan.spec["preprocessing"] == {"scale": [1 / 255], "offset": [0.0, 1.0, 2.0], "channels": "bgr"}
    again, warnings = resolve.plan_again(plan.spec, Path("head"), resolve.Again(None, "auto", None, None))
    assert (again.spec, warnings) == (plan.spec, [])
    pixels = np.array([[[[255, 0, 51]]]], np.float32)
    np.testing.assert_allclose(plan.backbone.preprocess(pixels), [[[[2.2, 1.0, 1.0]]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("metadata", "kind", "expected"),
    [
        ({}, TensorProto.UINT8, Scaling((1.0,), (0.0,))),
        ({"Image.BitmapPixelFormat": "Bgr8"}, TensorProto.UINT8, Scaling((1.0,), (0.0,), "bgr")),
        ({"Image.NominalPixelRange": "Normalized_0_1"}, TensorProto.FLOAT, Scaling((1 / 255,), (0.0,))),
        (
            {"Image.NominalPixelRange": "Normalized_1_1", "Image.BitmapPixelFormat": "Bgr8"},
            TensorProto.FLOAT,
            Scaling((2 / 255,), (-1.0,), "bgr"),
        ),
        ({"Image.BitmapPixelFormat": "Rgb8"}, TensorProto.FLOAT, None),
        (
            {"headstart.scale": "0.5,1,2", "headstart.offset": "-1", "headstart.channels": "bgr"},
            TensorProto.FLOAT,
            Scaling((0.5, 1.0, 2.0), (-1.0,), "bgr"),
        ),
        ({"headstart.scale": "0.5,1", "headstart.offset": "-1"}, TensorProto.FLOAT, None),
        ({"headstart.scale": "nan", "headstart.offset": "-1"}, TensorProto.FLOAT, None),
        ({"headstart.scale": "one", "headstart.offset": "-1"}, TensorProto.FLOAT, None),
        ({"headstart.scale": "1"}, TensorProto.FLOAT, None),
        (
            {"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Gray8"},
            TensorProto.FLOAT,
            None,
        ),
    ],
)
def test_a_graph_may_say_how_pixels_enter(metadata, kind, expected, tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx", metadata=metadata, kind=kind)
    assert onnx_file.describe(path).scaling == expected


def test_a_graph_may_say_how_photos_become_squares_and_a_user_goes_before_it(tmp_path):
    told = {"scale": "0.5", "offset": "-1", "resize": "crop", "interpolation": "bicubic"}
    path = onnx_graphs.maps(tmp_path / "a.onnx", metadata={f"headstart.{name}": text for name, text in told.items()})
    spec = spec_of(path)
    assert (spec["resize"], spec["interpolation"]) == ("crop", "bicubic")
    assert resolve.plan_again(spec, Path("head"), resolve.Again(str(path), "auto", None, None))[0].spec == spec
    given = spec_of(path, resize="pad", interpolation="bilinear", size=32, channels="rgb", **FULL)
    assert (given["resize"], given["interpolation"]) == ("pad", "bilinear")
    assert spec_of(path, size=32, channels="rgb", cut="y", **FULL)["resize"] == "crop"
    odd = onnx_graphs.maps(tmp_path / "b.onnx", metadata={"headstart.resize": "twist", "headstart.interpolation": ""})
    assert (spec_of(odd, **FULL)["resize"], spec_of(odd, **FULL)["interpolation"]) == ("squash", "bilinear")


def test_what_files_can_say_of_squares_is_what_photos_can_become():
    assert get_args(graph_notes.Fit) == get_args(Geometry)
    assert get_args(graph_notes.Interpolation) == get_args(Interpolation)


# What keras-hub 0.32 makes of the last of these images, at the top and where the last block begins: the class token,
# then the mean of the patches. `tests.hub` compares each family with keras-hub itself.
KEPT = Path(__file__).with_name("dinov2.onnx")
OF_KERAS_HUB = {
    "top": "-.4670 -.3002 .2218 .4349 -.0786 .2098 -.2274 .3024 -.4323 -.1776 .2033 .4107 -.0029 .2830 -.4507 .2968",
    "block-1": ".2613 .1497 .3492 -.0068 .0886 .1551 .4682 .1627 "
    "-1.3147 -1.1783 1.0247 -1.7497 -.2725 .0638 .2236 -.4577",
}


@pytest.mark.parametrize("cut", OF_KERAS_HUB)
def test_a_kept_graph_of_keras_hub_needs_nothing_beside_it(cut):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    plan = resolve.plan(FeatureSettings(backbone=f"onnx:{KEPT}", cut=cut, pooling="cls+mean"))
    assert (plan.spec["resize"], plan.spec["interpolation"]) == ("crop", "bicubic")
    rows = np.concatenate(list(resolve.open_engine(plan, batch_size=5, cache=None).run([pixels])))
    expected = np.array(OF_KERAS_HUB[cut].split(), np.float32)
    assert np.abs(rows[-1] - expected).max() < 1e-4 * np.abs(expected).max() + 5e-5  # what rounding to four digits adds


def node(kind, **attributes):
    return helper.make_node(kind, ["x"], ["y"], **attributes)


def body():
    return helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [], [])


def external(path):
    model = onnx.load(onnx_graphs.maps(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    path.write_bytes(model.SerializeToString())


def called(path):
    model = onnx.load(onnx_graphs.maps(path))
    model.functions.add(name="f", domain="")
    path.write_bytes(model.SerializeToString())


HOSTILE = {
    "a library's operation": (lambda path: onnx_graphs.write(path, [node("F", domain="evil")], {}), "evil.F"),
    "a loop": (lambda path: onnx_graphs.write(path, [node("Loop", body=body())], {}), "Loop, which repeats"),
    "a scan": (lambda path: onnx_graphs.write(path, [node("Scan", body=body())], {}), "Scan, which repeats"),
    "a branch": (lambda path: onnx_graphs.write(path, [node("If", then_branch=body())], {}), "If, which repeats"),
    "a function": (called, "a function of its own, f"),
    "tensors elsewhere": (external, "w1 in another file; it was not loaded; write it as one file"),
    "cut short": (lambda path: path.write_bytes(onnx_graphs.maps(path).read_bytes()[:-50]), "or a part of one"),
    "no ONNX": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" * 9), "received another kind"),
    "empty": (lambda path: path.write_bytes(b""), "with a graph, received none"),
    "three axes": (lambda path: onnx_graphs.maps(path, shape=("n", 3, 32)), r"received \(\?, 3, 32\)"),
    "grey": (lambda path: onnx_graphs.maps(path, shape=("n", 1, 32, 32)), r"received \(\?, 1, 32, 32\)"),
    "oblong": (lambda path: onnx_graphs.maps(path, shape=("n", 3, 32, 48)), "square images, received 32 x 48 px"),
    "any size": (lambda path: onnx_graphs.maps(path, shape=("n", 3, "h", "w")), "`size`: expected the side"),
    "two outputs": (lambda path: onnx_graphs.maps(path, outputs=("y", "r2")), "one of its outputs, y, r2"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_base_is_refused_in_a_line(kind, tmp_path):
    make, told = HOSTILE[kind]
    path = tmp_path / "a.onnx"
    make(path)
    with pytest.raises(HeadstartError, match=told) as caught:
        spec_of(path, **FULL)
    assert "\n" not in str(caught.value)


def test_two_inputs_are_refused(tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, (1,)))
    onnx.save(model, path)
    with pytest.raises(InputError, match="received inputs x, mask"):
        spec_of(path, **FULL)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({}, r"`input_scale`: .* ImageNet networks of PyTorch mostly take `input_scale` 0\.0171"),
        ({"input_scale": (0.01,)}, "`input_offset`: expected a number or three, since a.onnx does not say"),
        ({**FULL, "input_scale": (1, 2)}, "`input_scale`: expected one number or three"),
        ({**FULL, "input_offset": (float("nan"),)}, "`input_offset`: expected one number or three"),
        ({**FULL, "size": 64}, "`size`: expected 32, which a.onnx has fixed"),
        ({**FULL, "engine": "tensorflow"}, "`engine`: expected openvino"),
        ({**FULL, "alpha": 0.5}, "`alpha`: expected 1"),
    ],
)
def test_a_setting_that_does_not_fit_the_graph_is_named(chosen, told, tmp_path):
    with pytest.raises(InputError, match=told):
        spec_of(onnx_graphs.maps(tmp_path / "a.onnx"), **chosen)


@pytest.mark.parametrize("weights", ["imagenet", "none", "nowhere.onnx"])
def test_only_a_file_is_a_graph(weights):
    with pytest.raises(InputError, match="`backbone`: expected onnx:FILE with the path of an ONNX file"):
        resolve.plan(FeatureSettings(backbone="onnx", weights=weights))


def test_a_name_that_needs_no_colon_keeps_its_weights():
    settings = FeatureSettings(backbone="onnx:a=b@c.onnx")
    assert (settings.backbone, settings.weights) == ("onnx", "a=b@c.onnx")
    assert dataclasses.replace(settings, size=3).weights == "a=b@c.onnx"


def test_the_output_named_by_a_number_is_a_tensor_and_no_index(tmp_path):
    path = onnx_graphs.maps(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "42"
    onnx.save(model, path)
    assert spec_of(path, **FULL, cut="42")["cut"] == spec_of(path, **FULL)["cut"] == "42"


def test_scales_in_a_spec_of_strangers_are_numbers():
    assert Scaling.is_spec("keras.applications.vgg16:preprocess_input")
    assert Scaling.is_spec({"scale": [1.0], "offset": [0, 1, 2], "channels": "bgr"})
    for strange in (None, 3, {}, {"scale": ["a"], "offset": [0], "channels": "rgb"}, {"scale": [1], "offset": [0]}):
        assert not Scaling.is_spec(strange)
    with pytest.raises(SettingError, match="`channels`"):
        Scaling.of(1.0, 0.0, "grb")


def test_the_table_lists_what_is_pretrained_and_finds_graphs():
    assert "onnx" not in table.BACKBONES
    assert table.find("onnx").name == "onnx"


@pytest.mark.parametrize(
    ("first", "others", "kept"),
    [
        ("onnx:a", ("vgg16",), [True, False]),
        ("vgg16", ("onnx:a", "xception"), [False, True, False]),
        ("vgg16", ("xception",), [True, False]),
    ],
)
def test_numbers_are_for_the_graphs_among_the_bases_that_are_compared(first, others, kept):
    base = BaseSettings(backbone=first, input_scale=(1.0,), input_offset=(0.0,))
    bases = bases_of(ProbeSettings(base=base, compare=others))
    assert [one.backbone for one in bases] == [name.partition(":")[0] for name in (first, *others)]
    assert [bool(one.input_scale) for one in bases] == kept
