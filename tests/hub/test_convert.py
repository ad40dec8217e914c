"""What is converted gives the features that keras-hub's own call gives, of each family of networks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pipeline.backbones import hub
from pipeline.backbones.hub_families import FAMILIES, family_of, tower_of
from pipeline.errors import InputError
from pipeline.features import resolve
from pipeline.features.settings import FeatureSettings
from stages.__main__ import main
from tests.hub import presets

IMAGES = 5  # more than a graph runs at once


def features(graph: Path, photos: Path, **chosen: Any) -> NDArray[np.float32]:
    """Photos to features, as `extract` makes them."""
    plan = resolve.plan(FeatureSettings(backbone=f"onnx:{graph}", dtype="float32", **chosen))
    pixels = np.stack([plan.fit(path.read_bytes()) for path in sorted(photos.iterdir())])
    engine = resolve.open_engine(plan, batch_size=IMAGES, cache=None)
    return np.concatenate(list(engine.run([pixels])))


def leaving(network: Any, images: Any) -> dict[str, NDArray[np.float32]]:
    """What leaves the blocks and the network when keras-hub calls it."""
    family = family_of(network)
    found = hub._outputs(tower_of(network), family.blocks, images)
    return {name: np.asarray(one) for name, one in found.items()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for number in range(IMAGES):
        Image.fromarray(random.integers(0, 256, (presets.SIDE, presets.SIDE, 3), np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


def test_every_family_is_tried() -> None:
    assert {type(make()).__name__ for make in presets.NETWORKS.values()} == {one.backbone for one in FAMILIES}


@pytest.mark.parametrize("name", presets.NETWORKS)
def test_features_of_a_preset_are_those_of_keras_hub(name: str, tmp_path: Path, photos: Path) -> None:
    network, converter = presets.write(name, tmp_path / "preset")
    graph = tmp_path / "base.onnx"
    done = hub.convert(str(tmp_path / "preset"), graph)
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())]).astype(np.float32)
    expected = leaving(network, converter(pixels))
    assert len(expected) >= 2 and list(expected) == list(done.shapes)
    for cut, one in expected.items():
        flat = np.abs(one).max()
        found = features(graph, photos, cut=cut, pooling="none" if one.ndim > 2 else "avg")
        assert np.abs(found.reshape(one.shape) - one).max() < 1e-4 * flat, cut
    before = family_of(network).before
    if before and (first := before(tower_of(network))) and expected["top"].ndim == 3:
        both = features(graph, photos, pooling="cls+mean")
        by_hand = np.concatenate([expected["top"][:, 0], expected["top"][:, first:].mean(1)], 1)
        assert np.abs(both - by_hand).max() < 1e-4 * np.abs(by_hand).max()


def test_last4_lays_the_class_tokens_of_the_last_blocks_side_by_side_after_the_norm(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.TOWER, "num_layers", 4)
    network, converter = presets.write("dinov2", tmp_path / "preset")
    hub.convert(str(tmp_path / "preset"), tmp_path / "base.onnx")
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())]).astype(np.float32)
    blocks = leaving(network, converter(pixels))
    expected = np.concatenate([np.asarray(network.layernorm(blocks[f"block-{k}"]))[:, 0] for k in (3, 2, 1, 0)], 1)
    assert (
        np.abs(features(tmp_path / "base.onnx", photos, pooling="last4") - expected).max()
        < 1e-4 * np.abs(expected).max()
    )


def test_a_preset_is_built_for_another_size_where_its_network_can_be(tmp_path: Path) -> None:
    presets.write("dinov2", tmp_path / "preset")
    done = hub.convert(str(tmp_path / "preset"), tmp_path / "base.onnx", size=96)
    assert (done.size, done.shapes["top"]) == (96, (1 + 12 * 12, 32))
    presets.write("vit", tmp_path / "fixed")
    with pytest.raises(InputError, match=r"`size`: expected 64, for which .* was made, received 96"):
        hub.convert(str(tmp_path / "fixed"), tmp_path / "other.onnx", size=96)
    assert not (tmp_path / "other.onnx").exists()


def test_the_same_preset_gives_the_same_bytes_and_the_command_writes_them(tmp_path: Path) -> None:
    presets.write("vgg", tmp_path / "preset")
    command = [sys.executable, "-m", "stages", "convert", str(tmp_path / "preset")]
    for name in ("one.onnx", "two.onnx"):
        run = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert "block-1" in run.stdout and "VGGBackbone, images of 64 px" in run.stdout
    told = {one.key: one.value for one in onnx.load(tmp_path / "one.onnx").metadata_props}
    assert told["headstart.resize"] == "crop" and told["headstart.interpolation"] == "bicubic"


@pytest.mark.parametrize(
    ("converter", "reason"),
    [
        ({"interpolation": "nearest"}, "resized by bilinear or bicubic or lanczos, received nearest"),
        ({"image_size": (32, 64)}, "for square images, received one for 32 x 64 px"),
    ],
)
def test_what_no_photo_can_be_resized_as_is_refused(converter: dict[str, Any], reason: str, tmp_path: Path) -> None:
    presets.write("vgg", tmp_path / "preset", **converter)
    with pytest.raises(InputError, match=reason):
        hub.convert(str(tmp_path / "preset"), tmp_path / "base.onnx")


def test_a_folder_that_is_no_preset_is_told_in_a_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", str(tmp_path), str(tmp_path / "base.onnx")])
    assert result.exit_code == 1
    assert "expected a preset that keras-hub can load" in result.stderr and result.stderr.count("\n") == 1
