"""The table of backbones: every row against Keras, with random weights, at small sizes. No network, no downloads."""

import gc
import importlib
import os
import random
import subprocess
import sys
import zlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from pipeline.backbones import backbone, builder, cutting, table
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.builder import without_weights
from pipeline.backbones.efficientnet_lite import LITES
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import find_weights, load
from pipeline.errors import CutError, InputError
from pipeline.export import allowed_operations
from tests import ROOT
from tests.fakes import quickly_drawn

SMALL = {"xception": 75, "inception_v3": 75, "inception_resnet_v2": 75, "nasnet_mobile": 224, "nasnet_large": 331}
# The least of each family has weights and runs. Of the others, with more of the same layers, the graph is built, in
# a third of the time.
FAMILIES = {
    row.preprocessing: [other for other in BACKBONES.values() if other.preprocessing == row.preprocessing]
    for row in BACKBONES.values()
}
RUN = {min(rows, key=lambda row: row.parameters).name for rows in FAMILIES.values()}
RNG = np.random.default_rng(0)

# Keras says so of sizes without weights of their own, which only these tests ask it for.
pytestmark = pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning")


def random_base(name, size=32, alpha=1.0, seed=0):
    backbone = table.find(name)
    weights = find_weights(backbone, "none", size=size, alpha=alpha, seed=seed)
    return backbone, load(backbone, size=size, alpha=alpha, weights=weights)


def files_asked_for(patch):
    """Let Keras believe that it loads ImageNet weights; return the names of the files that it will want."""
    asked = []
    patch.setattr("keras.src.utils.file_utils.get_file", lambda name, *_, **__: asked.append(name) or name)
    patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    return asked


@pytest.fixture(scope="module", params=BACKBONES)
def row(request):
    """One backbone, built once, and the names of the files that Keras wanted."""
    backbone = BACKBONES[request.param]
    size = SMALL.get(backbone.name, 32)
    build = Backbone.build
    with pytest.MonkeyPatch.context() as patch:
        asked = files_asked_for(patch)
        if backbone.name not in LITES:
            patch.setattr(
                Backbone,
                "build",
                lambda self, *, weights, **given: build(self, weights="imagenet", **given),
            )
        weights = find_weights(backbone, "none", size=size, alpha=1.0, seed=0)
        runs = backbone.name in RUN

        def loaded():
            return load(backbone, size=size, alpha=1.0, weights=weights)

        if runs:
            base = quickly_drawn(loaded)
        else:
            with without_weights():
                base = loaded()
    yield SimpleNamespace(backbone=backbone, base=base, size=size, asked=asked, runs=runs)
    if runs:
        gc.collect()  # the graph of a network is full of cycles, and its weights stay until they are found


def fingerprint(base):
    """All that a run in training mode would change, and the beginning of everything else."""
    frozen = [zlib.crc32(np.asarray(weight).tobytes()) for weight in base.non_trainable_weights]
    return frozen + [np.asarray(weight.value[:1]).ravel()[:64].tolist() for weight in base.trainable_weights]


def test_table_holds_every_builder_of_keras():
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    ours = {row.builder.split(":")[1]: row.name for row in BACKBONES.values()}
    assert [ours.pop(f"EfficientNetLite{number}") for number in (0, 1, 2)] == list(LITES)
    assert set(ours) == theirs
    assert all(name.replace("_", "") == function.lower() for function, name in ours.items())


def test_offline_default_comes_first():
    assert next(iter(BACKBONES)) == "efficientnet_lite0"


def test_row_agrees_with_the_network(row):
    assert row.base.count_params() == row.backbone.parameters
    assert row.base.output.shape[-1] == row.backbone.width


def test_keras_wants_the_file_that_the_row_names(row):
    expected = [] if row.backbone.name in LITES else [row.backbone.weights_file(size=row.size, alpha=1.0)]
    assert row.asked == expected


def test_words_are_cuts_in_order_from_image_to_top(row):
    points = cutting.cut_points(row.base)
    positions = [points.index(layer) for layer in row.backbone.cuts.values()]
    assert positions == sorted(set(positions))
    assert (positions[0], positions[-1]) == (0, len(points) - 1)
    blocks = list(row.backbone.cuts)[1:-1]
    assert blocks == [f"block-{number}" for number in range(len(blocks), 0, -1)]


def test_top_gives_as_many_features_as_the_row_says_and_changes_nothing(row):
    trunk = cutting.trunk(row.backbone, row.base, cut="top", pooling="avg")
    assert trunk.output.shape == (None, row.backbone.width)
    if not row.runs:
        return
    pixels = RNG.integers(0, 256, (1, row.size, row.size, 3), dtype=np.uint8)
    before, kept = fingerprint(row.base), pixels.copy()
    features = np.asarray(trunk(pixels))
    assert features.shape == (1, row.backbone.width)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert fingerprint(row.base) == before
    assert np.array_equal(pixels, kept)


def test_an_export_of_it_is_made_of_what_exports_may_hold(row):
    config = keras.saving.serialize_keras_object(row.base)
    kinds = set(allowed_operations.kinds(config))
    assert {(module, name) for module, name in kinds if name not in allowed_operations.KERAS.get(module, ())} == set()


def test_preprocessing_is_that_of_keras_for_this_model(row):
    pixels = RNG.integers(0, 256, (2, row.size, row.size, 3), dtype=np.uint8)
    module, function = row.backbone.preprocessing.split(":")
    expected = getattr(importlib.import_module(module), function)(pixels.astype(np.float32))
    received = np.asarray(cutting.trunk(row.backbone, row.base, cut="image", pooling="none")(pixels))
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=2e-5)
    if row.backbone.name not in LITES:
        builder = getattr(keras.applications, row.backbone.builder.split(":")[1])
        assert builder.__module__ == importlib.import_module(module).preprocess_input.__module__


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_at_every_width_and_size_keras_wants_the_named_file_and_words_are_cuts(name, monkeypatch):
    asked = files_asked_for(monkeypatch)
    backbone = BACKBONES[name]
    sizes = [*backbone.sizes, 100] if backbone.sizes else [224, 100]
    for number, alpha in enumerate((*backbone.alphas, 1.0, 0.75)):
        size = sizes[number % len(sizes)]
        with without_weights():
            base = backbone.build(size=size, alpha=alpha, weights="imagenet")
        assert asked.pop() == backbone.weights_file(size=size, alpha=alpha)
        builder.name_layers(base)
        assert set(backbone.cuts.values()) <= set(cutting.cut_points(base))


def test_published_parameter_counts():
    with without_weights():
        _, mobilenet_v2 = random_base("mobilenet_v2", size=160)
        _, vgg16 = random_base("vgg16")
    assert mobilenet_v2.count_params() == 2_257_984
    assert vgg16.count_params() == 14_714_688


def test_width_multiplier_reaches_the_builder():
    with without_weights():
        _, base = random_base("mobilenet", alpha=0.25)
    assert base.output.shape[-1] == 256


def test_names_and_random_weights_do_not_depend_on_what_was_built_before():
    _, first = random_base("mobilenet_v3_small", seed=7)
    with without_weights():
        random_base("mobilenet_v2")
    random.seed(3)
    _, second = random_base("mobilenet_v3_small", seed=7)
    assert [layer.name for layer in first.operations] == [layer.name for layer in second.operations]
    assert first.layers[-1].name == "activation_17"
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def seeds(base):
    """What its layers' initialisers drew as they were made, of which random weights are a function."""
    return [layer.kernel_initializer.seed for layer in base.layers if hasattr(layer, "kernel_initializer")]


def test_the_first_base_that_a_process_builds_has_the_same_random_weights():
    """Keras' import draws from the generator that initialisers draw from; with OpenVINO below it, it is shorter."""
    program = (
        "import sys; from pipeline.backbones import builder, table; assert 'keras' not in sys.modules; "
        "base = builder.build(table.find('mobilenet'), size=32, alpha=0.25, seed=7); "
        "print([layer.kernel_initializer.seed for layer in base.layers if hasattr(layer, 'kernel_initializer')])"
    )
    environment = os.environ | {"KERAS_BACKEND": "openvino"}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    with without_weights():
        here = builder.build(table.find("mobilenet"), size=32, alpha=0.25, seed=7)
    assert ran.stdout == f"{seeds(here)}\n"
    assert len(set(seeds(here))) > 10


def test_another_seed_gives_other_random_weights():
    with without_weights():
        _, first = random_base("mobilenet_v3_small", seed=1)
        _, second = random_base("mobilenet_v3_small", seed=2)
    assert not set(seeds(first)) & set(seeds(second))
    initialisers = [base.get_layer("conv").kernel_initializer for base in (first, second)]
    assert not np.array_equal(*(initialiser((3, 3)) for initialiser in initialisers))


def test_building_leaves_the_random_generator_where_it_was():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with without_weights():
        random_base("mobilenet_v3_small")
    assert random.random() == expected


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(InputError, match=r"received 'resnet_50'; did you mean resnet50"):
        table.find("resnet_50")


def test_words_resolve_and_layers_stay_as_they_are():
    vgg16 = table.find("vgg16")
    assert table.resolve_cut(vgg16, "top") == "block5_pool"
    assert table.resolve_cut(vgg16, "block-1") == "block4_pool"
    assert table.resolve_cut(vgg16, "image") == backbone.IMAGE
    assert table.resolve_cut(vgg16, "block3_conv2") == "block3_conv2"
    assert table.resolve_cut(vgg16, "14") == "block4_pool"


def test_a_word_the_row_does_not_list_is_refused():
    with pytest.raises(
        CutError, match=r"expected one of image, block-4, .*, top or a layer's name, received 'block-9'"
    ):
        table.resolve_cut(table.find("vgg16"), "block-9")


def test_a_size_too_small_is_an_input_error_with_keras_reason():
    with pytest.raises(InputError, match=r"vgg16: cannot be built at size=8.*at least 32x32"):
        random_base("vgg16", size=8)


def test_a_width_multiplier_that_the_builder_lacks_is_refused():
    with pytest.raises(InputError, match=r"`alpha`: expected 1, since vgg16 has no width multiplier, received 0.5"):
        random_base("vgg16", alpha=0.5)
