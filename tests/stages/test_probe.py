"""``headstart probe``: a given cut is echoed at once; `extract` and `cache explain` take the file, or say why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.features.probe import cut_file
from stages.__main__ import main
from tests.fakes import register_tiny, write_classes


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def probe(tmp_path: Path, *options: object) -> Result:
    """Neither the images nor the manifest are there."""
    return run("probe", tmp_path / "none", tmp_path / "none.csv", tmp_path / "cut.json", *options)


def test_a_given_cut_is_echoed_without_images_manifest_or_tensorflow(tmp_path: Path) -> None:
    command = "import sys; from stages.__main__ import main; main(sys.argv[1:], standalone_mode=False)"
    paths = [str(tmp_path / name) for name in ("none", "none.csv", "cut.json")]
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", command, "probe", *paths, "--cut", "top", "--pooling", "flatten"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"top_activation with flatten, as given -> {tmp_path / 'cut.json'}\n"
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "pipeline.features.probe.probe" in loaded
    assert not loaded & {"tensorflow", "keras", "openvino", "sklearn"}


def test_auto_pooling_of_a_given_cut_is_avg(tmp_path: Path) -> None:
    assert probe(tmp_path, "--cut", "block-9").exit_code == 0
    assert cut_file.read(tmp_path / "cut.json", backbone="efficientnet_lite0") == ("block4b_add", "avg")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--pooling", "flatten"),
            "expected auto, avg, max, grid2, grid3, cls or cls+mean with --cut auto, received flatten",
        ),
        (("--cut", "top", "--compare", "vgg16"), "--compare: expected with --cut auto, received --cut top"),
        (("--compare", "vgg16@big"), "+int8, received 'vgg16@big'"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = probe(tmp_path, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    result = probe(tmp_path)
    assert result.exit_code == 1
    assert "none.csv: expected a manifest" in result.stderr


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    path = tmp_path / "cut.json"
    cut_file.write(path, backbone="mobilenet_v2", cut="block_3_project_BN", pooling="grid2", why="", figures=None)
    return path


NETWORK = ("--backbone", "mobilenet_v2", "--weights", "none", "--size", 32)


def extract(tmp_path: Path, *options: object) -> Result:
    paths = (tmp_path / "photos", tmp_path / "manifest.csv", tmp_path / "features.h5")
    return run("extract", *paths, "--cache", tmp_path / "cache", "--dtype", "float32", *options)


def explain(tmp_path: Path, *options: object) -> Result:
    place = ("--cache", tmp_path / "cache", "--dtype", "float32")
    return run("cache", "explain", tmp_path / "manifest.csv", *place, *options)


@pytest.mark.parametrize("command", [extract, explain])
@pytest.mark.parametrize("option", [("--cut", "top"), ("--pooling", "avg")])
def test_a_cut_file_and_a_cut_are_a_usage_error(tmp_path: Path, cut: Path, command, option: tuple[str, str]) -> None:
    result = command(tmp_path, *NETWORK, "--cut-file", cut, *option)
    assert result.exit_code == 2
    assert f"{option[0]}: expected with no --cut-file, received --cut-file {cut}" in result.stderr


@pytest.mark.parametrize("command", [extract, explain])
def test_a_cut_file_of_another_backbone_is_refused_by_both_names(tmp_path: Path, cut: Path, command) -> None:
    result = command(tmp_path, "--backbone", "vgg16", "--weights", "none", "--cut-file", cut)
    assert result.exit_code == 1
    assert "expected a cut of the backbone vgg16, received one of mobilenet_v2" in result.stderr


def test_extract_takes_cut_and_pooling_from_the_file_and_explain_finds_the_rows(tmp_path: Path, cut: Path) -> None:
    write_classes(tmp_path / "photos", {"dark": 4, "bright": 4})
    assert run("prepare", tmp_path / "photos", tmp_path / "manifest.csv", "--workers", 1).exit_code == 0
    result = extract(tmp_path, *NETWORK, "--cut-file", cut)
    assert result.exit_code == 0, result.output
    from pipeline.features.features_file import Features

    with Features(tmp_path / "features.h5") as features:
        assert (features.spec["cut"], features.spec["pooling"]) == ("block_3_project_BN", "grid2")
    assert "8 of 8 rows cached" in explain(tmp_path, *NETWORK, "--cut-file", cut).stdout
    named = explain(tmp_path, *NETWORK, "--cut", "block_3_project_BN", "--pooling", "grid2")
    assert "8 of 8 rows cached" in named.stdout


@pytest.mark.usefixtures("undrawn")
def test_a_probe_of_a_real_base_finds_a_cut_that_extract_takes(tmp_path: Path) -> None:
    register_tiny()
    write_classes(tmp_path / "photos", {"dark": 8, "grey": 8, "bright": 8})
    manifest = tmp_path / "manifest.csv"
    assert run("prepare", tmp_path / "photos", manifest, "--workers", 1, "--stratify").exit_code == 0
    options = (*NETWORK, "--sample", 12, "--compare", "tiny@32=none", "--cache", tmp_path / "cache")
    result = run("probe", tmp_path / "photos", manifest, tmp_path / "cut.json", *options)
    assert result.exit_code == 0, result.output
    assert "72 candidates: " in result.stdout
    assert "tiny at 32 px: " in result.stdout
    assert json.loads((tmp_path / "cut.json").read_text())["figures"]["images"] == 12
    assert extract(tmp_path, *NETWORK, "--cut-file", tmp_path / "cut.json").exit_code == 0
