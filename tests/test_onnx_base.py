"""A graph in an ONNX file as the base, from photos to labels."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.backbones import onnx_file
from stages.__main__ import main
from tests.fakes import write_classes
from tests.onnx_graphs import maps, tokens

NUMBERS = ("--input-scale", "0.01,0.02,0.03", "--input-offset", "-1,0.5,0")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a graph, and what was made of them by it."""
    place = tmp_path_factory.mktemp("graph")
    write_classes(place / "photos", {"dark": 12, "light": 12})
    maps(place / "base.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("HEADSTART_CACHE", "cache")
        done("prepare", "-q", "photos", "manifest.csv")
        extract = ("extract", "-q", "photos", "manifest.csv", "features.h5", "--backbone", "onnx:base.onnx", *NUMBERS)
        assert "24 computed" in done(*extract)
        assert "0 computed" in done(*extract)
        done("train", "-q", "manifest.csv", "features.h5", "head", "--with-weights")
        done("train", "-q", "manifest.csv", "features.h5", "light")
        done("evaluate", "-q", "photos", "manifest.csv", "features.h5", "head", "evaluation")
        (place / "base.onnx").rename(place / "elsewhere.onnx")
        maps(place / "base.onnx", seed=1)
    return place


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HEADSTART_CACHE", "cache")


def labels(*words: str) -> str:
    return done("predict", "-q", *words, "photos")


def test_the_graph_is_found_again_by_its_digest() -> None:
    kept = labels("light")
    assert kept.count("dark,") + kept.count("light,") >= 24
    assert labels("light", "--weights", "elsewhere.onnx", "--cache", "nothing") == kept
    assert labels("head", "--cache", "nothing") == kept
    assert json.loads(Path("evaluation/metrics.json").read_text())["accuracy"] > 0.5


def test_a_head_is_exported_with_its_graph_and_the_export_gives_its_labels() -> None:
    words = ("--format", "onnx,openvino", "--images", "photos", "--manifest", "manifest.csv")
    assert "model.onnx, model.xml -> out" in done("export", "-q", "head", "out", *words)
    parity = json.loads(Path("out/parity.json").read_text())["formats"]
    assert [(row["format"], row["largest_difference"] < 1e-6) for row in parity] == [("onnx", True), ("openvino", True)]
    assert "Its base is a graph in a file (onnx), weights with sha256" in Path("out/MODEL_CARD.md").read_text()
    of_head = [line.split(",")[:2] for line in labels("head").splitlines()]
    for file in ("model.onnx", "model.xml"):
        assert [line.split(",")[:2] for line in labels(f"out/{file}").splitlines()] == of_head
    onnx_file.read(Path("out/model.onnx"))
    assert onnx_file.describe(Path("out/model.onnx")).input == "pixels"


def test_another_graph_under_the_same_name_is_refused() -> None:
    result = run("predict", "-q", "light", "photos", "--weights", "base.onnx")
    assert result.exit_code == 1
    assert "weights.sha256: expected" in result.output
    missing = run("predict", "-q", "light", "photos", "--weights", "none.onnx").output
    assert "--weights: expected onnx:FILE with the path of an ONNX file, received 'none.onnx'" in missing
    lost = run("predict", "-q", "light", "photos", "--cache", "empty")
    assert "which is not on this machine: give it as --weights" in lost.output
    assert "ImageNet" not in lost.output


def test_what_cannot_begin_writes_no_row_and_no_header() -> None:
    result = run("predict", "-q", "head", "photos", "--explain", "none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "expected activations (h, w, C) to find evidence in, received shape (6,) at the cut" in result.stderr


@pytest.mark.parametrize("extra", [(), ("--epochs", "0")])
def test_what_needs_layers_says_so_in_a_line(extra: tuple[str, ...]) -> None:
    told = run("finetune", "-q", "photos", "manifest.csv", "features.h5", "light", "model", *extra).output
    assert "Error: --backbone: expected a base of the table: a graph in an ONNX file is computed as it is" in told
    assert not Path("model/model.json").exists()
    told = run("export", "-q", "head", "out", "--format", "onnx,keras").output
    assert "Error: --format: expected onnx or openvino, since the base of head is a graph, received keras" in told


def test_a_cut_at_a_map_shows_where_the_evidence_lies() -> None:
    words = ("extract", "-q", "photos", "manifest.csv", "maps.h5", "--backbone", "onnx:elsewhere.onnx", *NUMBERS)
    done(*words, "--cut", "r2", "--pooling", "grid2")
    done("train", "-q", "manifest.csv", "maps.h5", "of-maps")
    for cut in ("r1", "r2"):  # the rows of one cut are no start for another's: there are no layers between
        assert "24 computed" in done(*words, "--cut", cut, "--pooling", "none")
    assert "photo" in labels("of-maps", "--explain", "heat")
    assert len(list(Path("heat").rglob("*.png"))) == 24


def test_a_graph_is_listed_and_probed_as_a_base_of_the_table() -> None:
    told = done("backbones", "onnx:elsewhere.onnx")
    assert "r2     Relu           8x8x6" in told
    assert "7 layers, 648 parameters" in told
    assert "expected with a base of the table" in run("backbones", "onnx:elsewhere.onnx", "--top").output
    tokens(Path("tokens.onnx"))
    done("probe", "-q", "photos", "manifest.csv", "probe/cut.json", "--backbone", "onnx:tokens.onnx", *NUMBERS)
    with Path("probe/layers.csv").open() as file:
        candidates = [(row["layer"], row["pooling"]) for row in csv.DictReader(file)]
    maps_only, whole = ("avg", "max", "grid2", "grid3"), ("avg", "max", "grid2", "grid3", "cls", "cls+mean")
    assert candidates == [
        (layer, one) for layer, all_of in (("c", maps_only), ("t", whole), ("y", whole)) for one in all_of
    ]
    words = ("extract", "-q", "photos", "manifest.csv", "probed.h5", "--backbone", "onnx:tokens.onnx", *NUMBERS)
    assert "24 images" in done(*words, "--cut-file", "probe/cut.json")
