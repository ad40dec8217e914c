"""The offline default is right: its architecture, its checkpoint and what it sees in real photographs."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.backbones import cutting, efficientnet_lite, table
from pipeline.backbones.weights import find_weights, load
from pipeline.errors import WeightsError

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
