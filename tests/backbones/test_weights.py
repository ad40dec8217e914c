"""Weights: every file form gives back the arrays that went in; anything else is refused, and nothing is executed."""

import hashlib
import pickle
import shutil
import tempfile
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications import convnext, efficientnet
from keras.src.legacy.saving import legacy_h5_format

from pipeline.backbones import efficientnet_lite, keras_weights, weights_file
from pipeline.backbones.network import Network
from pipeline.backbones.table import BACKBONES, find
from pipeline.backbones.weights import IMAGENET_STDDEV, Weights, find_weights, load, offline_path
from pipeline.errors import InputError, StorageError, WeightsError
from tests.fakes import filled, quickly_drawn

SIZE = 32
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
# One of explicit names, one of automatic names, one with nested models, one with a Normalization layer.
FAMILIES = ["mobilenet_v2", "mobilenet_v3_small", "small convnext_tiny", "small efficientnet_b0"]


def given(path):
    return Weights(path=Path(path), sha256="0" * 64, seed=None)


def loaded(name, path):
    return load(find(name), size=SIZE, alpha=1.0, weights=given(path))


@pytest.fixture(autouse=True, scope="module")
def small_bases(table_of_backbones):
    """Bases of two families with all kinds of their layers, but few and narrow ones."""
    for name, builder in (("convnext_tiny", "small_convnext"), ("efficientnet_b0", "small_efficientnet")):
        BACKBONES[f"small {name}"] = replace(BACKBONES[name], builder=f"{__name__}:{builder}")


def small_convnext(**given):
    return convnext.ConvNeXt((1, 1, 2, 1), (8, 12, 16, 24), **given)


def small_efficientnet(**given):
    return efficientnet.EfficientNet(0.3, 0.3, 224, **given)


@cache
def keras_base(name):
    """A base as Keras builds it, automatic names and all, with weights that differ from any initial ones; shared."""
    draw = np.random.default_rng(1)

    def shaken(name, shape):
        return draw.uniform(0.1, 0.9, shape).astype(np.float32)

    return filled(lambda: find(name).build(size=SIZE, alpha=1.0, weights=None), shaken)


def by_layer(base):
    return [np.asarray(w) for layer in base.layers for w in layer.weights]


def assert_same(base, expected):
    received = by_layer(base)
    assert len(received) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(received, expected, strict=True))


def notop(base, path):
    """Write what Keras publishes as ``…_notop.h5``."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, base)


def flat(base):
    return keras.Model(base.input, layers.Dense(2)(layers.GlobalAveragePooling2D()(base.output)))


def nested(base):
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), layers.RandomFlip(), base, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    base = keras_base(request.param)
    return request.param, base, by_layer(base)


def test_published_form_round_trips(family, tmp_path):
    name, base, expected = family
    notop(base, tmp_path / "base_notop.h5")
    assert_same(loaded(name, tmp_path / "base_notop.h5"), expected)


def test_weights_h5_round_trips(family, tmp_path):
    name, base, expected = family
    base.save_weights(tmp_path / "base.weights.h5")
    assert_same(loaded(name, tmp_path / "base.weights.h5"), expected)


def test_no_number_is_drawn_that_the_file_replaces(tmp_path, monkeypatch):
    base = keras_base("mobilenet_v3_small")
    base.save_weights(tmp_path / "base.weights.h5")
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", lambda *_, **__: pytest.fail("it was drawn"))
    assert_same(loaded("mobilenet_v3_small", tmp_path / "base.weights.h5"), by_layer(base))


# Each family in both shapes and in both forms of file; that of automatic names is nested in the test below.
WHOLE = [
    *(("mobilenet_v2", flat, ".keras"), ("mobilenet_v2", nested, ".h5")),
    *(("mobilenet_v3_small", flat, ".keras"), ("mobilenet_v3_small", flat, ".h5")),
    *(("small convnext_tiny", flat, ".h5"), ("small convnext_tiny", nested, ".keras")),
    *(("small efficientnet_b0", flat, ".keras"), ("small efficientnet_b0", nested, ".h5")),
]


@pytest.mark.parametrize(("name", "shape", "suffix"), WHOLE)
def test_base_is_found_in_a_whole_model(name, shape, suffix, tmp_path):
    base = keras_base(name)
    path = tmp_path / f"model{suffix}"
    shape(base).save(path)
    assert_same(loaded(name, path), by_layer(base))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_base_is_found_whatever_was_frozen_in_it(suffix, tmp_path):
    base = keras_base.__wrapped__("mobilenet_v3_small")
    expected = by_layer(base)
    for layer in base.layers[:40]:
        layer.trainable = False
    path = tmp_path / f"model{suffix}"
    nested(base).save(path)
    assert_same(loaded("mobilenet_v3_small", path), expected)


def test_compressed_archive_is_read(tmp_path):
    base = keras_base("mobilenet_v3_small")
    base.save_weights(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    assert_same(loaded("mobilenet_v3_small", tmp_path / "model.keras"), by_layer(base))


def test_offline_default_loads_from_its_own_file_forms_whether_built_or_listed(tmp_path):
    backbone = find("efficientnet_lite0")
    weights = find_weights(backbone, "imagenet", size=SIZE, alpha=1.0, seed=0)
    first = load(backbone, size=SIZE, alpha=1.0, weights=weights)
    expected = by_layer(first)
    first.save_weights(tmp_path / "lite.weights.h5")
    notop(first, tmp_path / "lite_notop.h5")
    flat(first).save(tmp_path / "flat.h5")
    nested(first).save(tmp_path / "nested.keras")
    assert_same(loaded("efficientnet_lite0", tmp_path / "lite.weights.h5"), expected)
    for path in (weights.path, *tmp_path.iterdir()):
        listed = load(backbone, size=SIZE, alpha=1.0, weights=given(path), listed=True)
        assert isinstance(listed, Network)
        assert_same(listed, expected)
    (tmp_path / "nested.keras").unlink()
    keras_base("mobilenet_v3_small").save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(WeightsError, match=r"layer stem_conv: expected .*\(3, 3, 3, 32\)"):
        load(backbone, size=SIZE, alpha=1.0, weights=given(tmp_path / "other.weights.h5"), listed=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """EfficientNetB0 as its published file has it, that file, and what is loaded from it."""
    base = quickly_drawn(lambda: find("efficientnet_b0").build(size=SIZE, alpha=1.0, weights=None))
    (normalization,) = (layer for layer in base.layers if isinstance(layer, layers.Normalization))
    # As in the published file: the standard deviations stand where variances belong.
    normalization.set_weights([MEAN, IMAGENET_STDDEV, np.zeros((), np.int64)])
    path = tmp_path_factory.mktemp("published") / "efficientnetb0_notop.h5"
    notop(base, path)
    return base, path, loaded("efficientnet_b0", path)


def test_efficientnet_computes_what_keras_computes_with_its_published_file(published, monkeypatch):
    base, path, ours = published
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(SIZE, SIZE, 3))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    largest = np.abs(theirs(pixels)).max()
    found, expected, of_base = (network(pixels) / largest for network in (ours, theirs, base))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(of_base, expected, rtol=1e-2, atol=1e-2)


def test_what_was_mended_once_is_not_mended_again(published, tmp_path):
    *_, once = published
    once.save_weights(tmp_path / "once.weights.h5")
    assert_same(loaded("efficientnet_b0", tmp_path / "once.weights.h5"), by_layer(once))


@pytest.mark.parametrize(
    ("larger", "smaller", "suffix"),
    [("vgg19", "vgg16", ".keras"), ("vgg19", "vgg16", ".h5")],
)
def test_a_larger_network_with_the_same_names_is_refused(larger, smaller, suffix, tmp_path):
    base = find(larger).build(size=SIZE, alpha=1.0, weights=None)
    base.save(tmp_path / f"larger{suffix}")
    with pytest.raises(WeightsError, match=r"layer \w+: expected arrays of shapes .*, received "):
        loaded(smaller, tmp_path / f"larger{suffix}")


def test_mismatch_names_layer_expected_and_received(tmp_path):
    small = find("mobilenet_v2").build(size=SIZE, alpha=0.5, weights=None)
    small.save_weights(tmp_path / "half.weights.h5")
    expected = (
        r"half.weights.h5: layer Conv1: expected arrays of shapes \[\(3, 3, 3, 32\)\], received \[\(3, 3, 3, 16\)\]"
    )
    with pytest.raises(WeightsError, match=expected):
        loaded("mobilenet_v2", tmp_path / "half.weights.h5")


def test_missing_layers_are_named(tmp_path):
    base = keras_base("vgg16")
    keras.Model(base.input, base.get_layer("block4_pool").output).save_weights(tmp_path / "part.weights.h5")
    with pytest.raises(WeightsError, match="layer block5_conv1: expected its arrays, received none"):
        loaded("vgg16", tmp_path / "part.weights.h5")


# --- Hostile and damaged files --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good_h5(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "vgg.weights.h5"
    keras_base("vgg16").save_weights(path)
    return path


@pytest.fixture
def weights_h5(good_h5, tmp_path):
    """A copy of a good file for VGG16 and the path of one array in it."""
    return Path(shutil.copy(good_h5, tmp_path)), "layers/conv2d/vars/0"


def replaced(path, name, plant):
    with h5py.File(path, "r+") as file:
        shape = file[name].shape
        del file[name]
        plant(file, name, shape)
    return path


def refused(path, reason):
    with pytest.raises(WeightsError, match=reason) as error:
        loaded("vgg16", path)
    assert "\n" not in str(error.value)


def test_external_storage_is_refused(weights_h5, tmp_path):
    path, name = weights_h5
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 3 * 3 * 3 * 64))
    replaced(
        path, name, lambda file, name, shape: file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 6912)])
    )
    refused(path, "expected arrays in the file itself, received foreign storage at /layers/conv2d/vars/0")


def test_virtual_dataset_is_refused(weights_h5, tmp_path):
    path, name = weights_h5

    def plant(file, name, shape):
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=shape)
        file.create_virtual_dataset(name, layout)

    refused(replaced(path, name, plant), "received foreign storage")


@pytest.mark.parametrize("link", [h5py.SoftLink("/layers/conv2d_1/vars/0"), h5py.ExternalLink("other.h5", "/x")])
def test_links_are_refused(weights_h5, link):
    path, name = weights_h5
    replaced(path, name, lambda file, name, _: file.__setitem__(name, link))
    refused(path, rf"received a link \({type(link).__name__}\) at /layers/conv2d/vars: 0")


def test_links_beside_the_base_are_refused_too(weights_h5):
    path, _ = weights_h5
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    refused(path, r"received a link \(ExternalLink\)")


def test_an_absurd_shape_is_refused_before_it_is_read(weights_h5):
    path, name = weights_h5
    replaced(path, name, lambda file, name, _: file.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(1024, 1024)))
    refused(path, r"layer block1_conv1: expected .* received \[\(1048576, 1048576\), \(64,\)\]")


def test_arrays_of_strings_are_refused(weights_h5):
    path, name = weights_h5
    replaced(path, name, lambda file, name, shape: file.create_dataset(name, shape, "S8"))
    refused(path, "layer block1_conv1: expected numbers, received")


@pytest.mark.parametrize(
    ("cap", "most", "plant", "reason"),
    [
        ("MAX_OBJECTS", 9, lambda file: [file.create_group(f"{n}/a") for n in range(5)], "more than 9 objects"),
        ("MAX_OBJECTS", 9, lambda file: layer_names(file, [["a"] * 5] * 2), "more than 9 arrays"),
        ("MAX_OBJECTS", 9, lambda file: layer_names(file, [["a"] * 10]), "more than 9 names in weight_names"),
        ("MAX_CHUNK", 7, lambda file: file.create_dataset("a", (9,), "f4", chunks=(2,)), "chunks of at most 7 bytes"),
        # Read by each of their names, few objects would be many.
        ("MAX_OBJECTS", 9, lambda file: file.create_group("a").__setitem__("b", file), "another link at /a: b"),
        ("MAX_OBJECTS", 9, lambda file: file.__setitem__("b", file.create_dataset("a", (1,))), "another link at /: b"),
    ],
)
def test_what_would_take_time_or_memory_beyond_reason_is_refused(cap, most, plant, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(weights_file, cap, most)
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        plant(file)
    with pytest.raises(WeightsError, match=reason):
        keras_weights.read(tmp_path / "bad.h5", keras.Sequential())


def layer_names(file, weights):
    """Layers of as many names, each of the same array."""
    file.attrs["layer_names"] = [f"{'./' * place}layer" for place in range(len(weights))]
    group = file.create_group("layer")
    group.create_dataset("a", (1,))
    group.attrs["weight_names"] = weights[0]


def test_absurd_attributes_are_refused(tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.attrs["layer_names"] = 7
    refused(tmp_path / "bad.h5", "expected a Keras weights file, received one that cannot be read")


def test_names_that_lead_nowhere_are_refused(tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.attrs["layer_names"] = ["ghost"]
    refused(tmp_path / "bad.h5", "expected a Keras weights file, received one that cannot be read")


@pytest.mark.parametrize("keep", [0.0005, 0.3, 0.9999])
def test_a_truncated_file_is_refused(weights_h5, keep):
    path, _ = weights_h5
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refused(path, "expected a Keras weights file, received one that cannot be read")


def test_an_empty_hdf5_file_is_refused(tmp_path):
    h5py.File(tmp_path / "empty.h5", "w").close()
    refused(tmp_path / "empty.h5", "received neither layer_names nor a group of layers")


def test_an_archive_without_weights_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tmp_path / "model.keras", "expected an archive with model.weights.h5, received config.json")


def test_an_archive_that_expands_beyond_reason_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10_000_000))
    refused(tmp_path / "model.keras", "expands 100-fold")


def test_nothing_in_a_model_file_is_executed(tmp_path):
    """The configuration could build any object (CVE-2025-1550): it is not even parsed."""
    base = keras_base("vgg16")
    base.save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
        evil.writestr("config.json", '{"module": "os", "class_name": "system", "config": not even JSON')
        evil.writestr("model.weights.h5", good.read("model.weights.h5"))
    assert_same(loaded("vgg16", tmp_path / "evil.keras"), by_layer(base))


# --- Finding --------------------------------------------------------------------------------------------------------


def found(name, weights, size=224, alpha=1.0, seed=0):
    return find_weights(find(name), weights, size=size, alpha=alpha, seed=seed)


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "fallback"))
    (tmp_path / "models").mkdir()
    (tmp_path / "fallback").mkdir()
    return tmp_path / "models"


def test_identity_is_the_hash_of_the_bytes(tmp_path):
    path = tmp_path / "some.weights.h5"
    keras_base("mobilenet_v3_small").save_weights(path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = found("mobilenet_v3_small", str(path))
    assert weights == Weights(path=path, sha256=expected, seed=None)
    assert weights.identity == {"sha256": expected}


def test_identity_of_random_weights_is_their_seed():
    assert found("vgg16", "none", seed=3).identity == {"seed": 3}


def test_imagenet_weights_in_keras_cache_are_found_by_their_name(keras_home):
    path = keras_home / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_160_no_top.h5"
    path.write_bytes(b"weights")
    assert found("mobilenet_v2", "imagenet", size=160, alpha=0.5).path == path
    assert offline_path(find("mobilenet_v2"), size=160, alpha=0.5) == path
    assert offline_path(find("mobilenet_v2"), size=192, alpha=0.5) is None


def test_imagenet_weights_that_cannot_be_fetched_are_named_with_their_place(keras_home, monkeypatch):
    def no_network(*_, **__):
        raise Exception("URL fetch failure:\n no network")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", no_network)
    with pytest.raises(WeightsError) as error:
        found("vgg16", "imagenet")
    assert str(error.value) == (
        "vgg16: expected the ImageNet weights vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5, "
        f"received URL fetch failure: no network; put the file into {keras_home}, or give it as `weights`"
    )


def test_imagenet_weights_are_fetched_by_keras_without_its_progress_bar(keras_home, monkeypatch, capsys):
    from keras.src.utils import io_utils

    base = keras_base("vgg16")

    def fetch(name, *_, **__):
        io_utils.print_msg("Downloading data")
        notop(base, keras_home / name)
        return str(keras_home / name)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fetch)
    weights = found("vgg16", "imagenet")
    assert weights.path == keras_home / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert capsys.readouterr() == ("", "")
    assert_same(load(find("vgg16"), size=SIZE, alpha=1.0, weights=weights), by_layer(base))


def test_a_width_without_imagenet_weights_is_refused_with_those_that_have(keras_home):
    with pytest.raises(InputError, match=r"`alpha`: expected one of 0.75, 1, for which .* received 0.6"):
        found("mobilenet_v3_large", "imagenet", alpha=0.6)


def test_a_missing_file_is_an_error():
    with pytest.raises(
        WeightsError, match=r"expected imagenet, none or a file, received 'imagnet', which is not there"
    ):
        found("vgg16", "imagnet")


def test_a_pickle_is_refused_before_anything_is_built(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError, match=r"expected a Keras weights file \(.h5, .weights.h5 or .keras\), received"):
        found("vgg16", str(tmp_path / "weights.pkl"))


def test_offline_default_is_offline():
    weights = found("efficientnet_lite0", "imagenet")
    assert weights.sha256 == efficientnet_lite.SHA256
    assert weights.path == efficientnet_lite.checkpoint_path()


def test_offline_default_without_its_package_says_what_to_install(monkeypatch):
    lite = efficientnet_lite.LITES["efficientnet_lite0"]._replace(package="no_such_package")
    monkeypatch.setitem(efficientnet_lite.LITES, "efficientnet_lite0", lite)
    with pytest.raises(WeightsError, match=r"efficientnet_lite0: expected .*\.pth from the package no-such-package"):
        found("efficientnet_lite0", "imagenet")


def test_every_row_can_say_whether_it_is_offline(keras_home):
    offline = [name for name, row in BACKBONES.items() if offline_path(row, size=row.size, alpha=1.0)]
    assert offline == ["efficientnet_lite0"]


def test_weights_files_are_told_by_their_first_bytes(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    assert not weights_file.is_weights_file(tmp_path / "text.h5")


def test_a_full_disk_for_temporary_files_is_named_and_not_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"w" * 100_000)
    named = f"^{tempfile.gettempdir()}: cannot unpack weights there: No space left"
    with Path("/dev/full").open("w+b", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        with pytest.raises(StorageError, match=named):
            loaded("vgg16", tmp_path / "model.keras")


def test_a_file_in_the_system_s_folder_for_temporary_files_is_nobody_s_weights(tmp_path, monkeypatch):
    """Everybody may write there. Keras would take it for its home where the user's is read-only."""
    name = find("vgg16").weights_file(size=224, alpha=1.0)
    (tmp_path / "home").mkdir(mode=0o500)
    for folder in (".keras", "fallback/.keras"):
        (tmp_path / folder / "models").mkdir(parents=True)
        (tmp_path / folder / "models" / name).write_bytes(b"weights of a stranger")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for folder in (tmp_path, tmp_path / "fallback"):
        monkeypatch.setattr("tempfile.gettempdir", lambda folder=folder: str(folder))
        assert offline_path(find("vgg16"), size=224, alpha=1.0) is None


def test_weights_in_the_user_s_own_folder_of_keras_are_found_beside_those_in_the_cache(tmp_path, monkeypatch):
    name = find("vgg16").weights_file(size=224, alpha=1.0)
    path = tmp_path / ".keras/models" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert offline_path(find("vgg16"), size=224, alpha=1.0) == path
