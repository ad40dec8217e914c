"""The offline default is right: its architecture, its checkpoint and what it sees in real photographs."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.backbones import builder, cutting, efficientnet_lite, layer_table, table
from pipeline.backbones.engines.openvino import OpenVINOEngine
from pipeline.backbones.network import Network
from pipeline.backbones.weights import find_weights, load
from pipeline.errors import CutError, WeightsError

DAISY = 985  # ImageNet's class numbers
BUILDINGS = {442, 449, 483, 497, 500, 536, 580, 663, 668, 698, 832}  # bell cote, boathouse, castle, …, palace, stupa


@pytest.fixture(scope="module")
def checkpoint():
    return efficientnet_lite.read_checkpoint(efficientnet_lite.checkpoint_path())


@pytest.fixture(scope="module")
def photographs():
    """scikit-learn's china.jpg and flower.jpg, squashed to 224 px."""
    images = (
        Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR) for image in load_sample_images().images
    )
    return np.stack([np.asarray(image) for image in images])


@pytest.fixture(scope="module")
def features(photographs):
    backbone = table.find("efficientnet_lite0")
    weights = find_weights(backbone, "imagenet", size=224, alpha=1.0, seed=0)
    base = load(backbone, size=224, alpha=1.0, weights=weights)
    return np.asarray(cutting.trunk(backbone, base, cut="top", pooling="avg")(photographs))


def test_it_sees_buildings_in_china_and_a_daisy_in_the_flower(features, checkpoint):
    kernel, bias = checkpoint["predictions"]
    china, flower = np.argsort(features @ kernel + bias)[:, ::-1]
    assert china[0] in BUILDINGS
    assert len(BUILDINGS & set(china[:5].tolist())) >= 3
    assert flower[0] == DAISY


def test_classifier_and_trunk_are_the_same_network(features, checkpoint, photographs):
    network = efficientnet_lite.EfficientNetLite0(include_top=True, weights=None, input_shape=(224, 224, 3))
    for layer, arrays in checkpoint.items():
        network.get_layer(layer).set_weights(arrays)
    logits = np.asarray(network(efficientnet_lite.preprocess_input(photographs.astype(np.float32))))
    kernel, bias = checkpoint["predictions"]
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-4, atol=1e-4)


def test_checkpoint_holds_every_weight_of_the_published_size(checkpoint):
    network = efficientnet_lite.EfficientNetLite0(include_top=True, weights=None, input_shape=(32, 32, 3))
    shapes = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in network.layers if layer.weights}
    assert {layer: [array.shape for array in arrays] for layer, arrays in checkpoint.items()} == shapes
    trainable = sum(np.prod(weight.shape) for weight in network.trainable_weights)
    assert trainable == 4_652_008  # as published for EfficientNet-Lite0


def base(size, *, listed):
    backbone = table.find("efficientnet_lite0")
    weights = find_weights(backbone, "imagenet", size=size, alpha=1.0, seed=0)
    return load(backbone, size=size, alpha=1.0, weights=weights, listed=listed)


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("size", [32, 75])
def test_what_is_listed_is_told_of_as_what_keras_builds(size, top):
    backbone = table.find("efficientnet_lite0")
    listed, built = (
        builder.build(backbone, size=size, alpha=1.0, seed=0, top=top, listed=listed) for listed in (True, False)
    )
    assert isinstance(listed, Network)
    assert layer_table.layer_table(listed) == layer_table.layer_table(built)
    for network in (listed, built):
        layer_table.freeze(network, up_to="block3b_add", names=["top_bn"])
    assert layer_table.layer_table(listed) == layer_table.layer_table(built)


def test_the_graph_of_what_is_listed_gives_keras_features_at_any_cut_with_any_pooling(photographs):
    backbone, pixels = table.find("efficientnet_lite0"), photographs[:, 60:135, 60:135]
    cuts = [
        *(("top", pooling) for pooling in cutting.OF_MAPS),
        *(("block-5", pooling) for pooling in cutting.OF_MAPS),
        *((cut, "avg") for cut in ("image", "stem_conv", "block2a_project_bn")),
    ]
    built, listed = (base(75, listed=listed) for listed in (False, True))
    network, widths = cutting.trunks(backbone, built, cuts=cuts)
    graph, same = cutting.trunks(backbone, listed, cuts=cuts)
    assert widths == same
    rows = [np.asarray(network(pixels)), run(graph, pixels)]
    for expected, found in zip(*(np.split(row, np.cumsum(widths[:-1]), axis=1) for row in rows), strict=True):
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    for cut, pooling in (("block-5", "none"), ("image", "none"), ("top", "grid2")):
        expected = np.asarray(cutting.trunk(backbone, built, cut=cut, pooling=pooling)(pixels))
        found = run(cutting.trunk(backbone, listed, cut=cut, pooling=pooling), pixels)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def run(graph, pixels):
    engine = OpenVINOEngine(graph, precision="float32")
    return np.concatenate(list(engine.run([pixels])))


def test_a_cut_beside_a_branch_and_an_unknown_pooling_are_refused_as_of_keras():
    backbone = table.find("efficientnet_lite0")
    for network in (base(32, listed=True), base(32, listed=False)):
        with pytest.raises(CutError, match="lies beside a branch; the nearest such layers are block3a_project_conv"):
            cutting.trunk(backbone, network, cut="block3b_dwconv", pooling="avg")
        with pytest.raises(CutError, match=r"expected one of avg, max, .* received 'mean'"):
            cutting.trunk(backbone, network, cut="top", pooling="mean")


def test_the_larger_networks_of_the_family_have_the_published_sizes():
    published = zip(efficientnet_lite.LITES, (4.65, 5.42, 6.09), strict=True)  # million parameters
    for name, parameters in published:
        listed = efficientnet_lite.network(include_top=True, input_shape=(64, 64, 3), name=name)
        assert round(sum(np.prod(one.shape) for one in listed.weights if one.trainable) / 1e6, 2) == parameters


@pytest.mark.parametrize("name", efficientnet_lite.LITES)
def test_a_checkpoint_has_the_arrays_of_each_layer_and_of_no_other(name, tmp_path):
    listed = efficientnet_lite.network(include_top=True, input_shape=(64, 64, 3), name=name)
    lite = efficientnet_lite.LITES[name]
    assert [layer for layer, _ in efficientnet_lite._names(lite)] == [one.name for one in listed.layers if one.weights]
    (tmp_path / lite.file).write_bytes(b"another")
    with pytest.raises(WeightsError, match=rf"expected the checkpoint {lite.file} with sha256 {lite.sha256}"):
        efficientnet_lite.read_checkpoint(tmp_path / lite.file, lite)


def test_strides_of_the_checkpoint_are_honoured():
    storage = np.arange(6, dtype=np.float32)
    view = efficientnet_lite._View(efficientnet_lite._Storage("<f4", "0", 6), 1, (2, 2), (1, 2))
    assert efficientnet_lite._tensor(view, storage).tolist() == [[1, 3], [2, 4]]


def test_preprocessing_scales_to_minus_one_to_one_and_leaves_its_input():
    pixels = np.array([0.0, 127.5, 255.0], np.float32)
    assert efficientnet_lite.preprocess_input(pixels).tolist() == [-1, 0, 1]
    assert pixels.tolist() == [0, 127.5, 255]


def test_another_file_is_refused_unread(tmp_path):
    path = tmp_path / efficientnet_lite.FILE
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(
        WeightsError, match=rf"expected the checkpoint .* sha256 {efficientnet_lite.SHA256}, received sha256"
    ):
        efficientnet_lite.read_checkpoint(path)


def test_unpickler_admits_tensors_only():
    with pytest.raises(WeightsError, match=r"expected a state dict of tensors, received builtins\.print"):
        efficientnet_lite._Unpickler(io.BytesIO(pickle.dumps(print))).load()


def test_the_package_is_not_executed():
    import sys

    assert efficientnet_lite.checkpoint_path() is not None
    assert efficientnet_lite.PACKAGE not in sys.modules
