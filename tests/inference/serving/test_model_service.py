"""What is served is what `predict` says, whatever else is asked for; and the command opens it as told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.errors import ImageError, InputError
from pipeline.features import features_file, spec
from pipeline.heads.knn import KnnHead
from pipeline.heads.store import save
from pipeline.inference.predict import Predictor
from pipeline.inference.serving import server
from pipeline.inference.serving.model_service import Ask, Service
from pipeline.inference.serving.settings import ServeSettings
from pipeline.models import store
from pipeline.models.settings import Runtime
from pipeline.photos import decode, manifest
from stages.serve import serve as command
from tests.fakes import plan, register_tiny, write_classes, write_photo
from tests.inference.serving.test_routes import png, said
from tests.inference.test_class_activation import SIZE, saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, photos, their manifest and their features."""
    root = tmp_path_factory.mktemp("served")
    model = saved_model(root / "model", widths=[1], pooling="avg", tuned=False)
    photos = sorted(write_classes(root / "photos", {"dark": 3, "bright": 3}).rglob("*.png"))
    digests = [decode.digest(path.read_bytes()) for path in photos]
    table = [
        manifest.Row(path.relative_to(root / "photos").as_posix(), digest, path.parent.name, "train", 40, 30, "PNG")
        for path, digest in zip(photos, digests, strict=True)
    ]
    manifest.write(manifest.from_rows(table), root / "manifest.csv")
    order = np.argsort(digests)
    pixels = np.stack([decode.fit(photos[at].read_bytes(), size=SIZE, geometry="squash") for at in order])
    features_file.write(
        root / "features.h5",
        spec=spec.canonical(store.read(model).spec),
        digests=np.stack([np.frombuffer(digests[at], np.uint8) for at in order]),
        row_shape=(16,),
        dtype="float32",
        blocks=[np.array(store.read(model).trunk(pooling=None)(pixels))],
    )
    return root


def opened(folder: Path, **changes: Any) -> Service:
    chosen: dict[str, Any] = {
        "engine": "openvino",
        "cache": folder / "cache",
        "batch_size": 8,
        "max_pixels": 10_000,
        "neighbours": 2,
        "features": folder / "features.h5",
        "manifest": folder / "manifest.csv",
        "images": folder / "photos",
    }
    return Service(folder / "model", ServeSettings(**{**chosen, **changes}))


ALONE = {"features": None, "manifest": None, "images": None}


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_the_answers_are_those_of_predict(folder: Path, tmp_path: Path, engine: str) -> None:
    service = opened(folder, engine=engine)
    paths = [write_photo(tmp_path / f"{seed}.png", seed) for seed in range(5)]
    asks = [Ask(service.fit(path.read_bytes()), explain=place == 1) for place, path in enumerate(paths)]
    answers = service.answer(asks)
    predictor = Predictor(folder / "model", Runtime(engine=engine, batch_size=8, cache=folder / "cache"))
    for answer, expected in zip(answers, predictor.predict(paths, progress=lambda *_: None), strict=True):
        assert answer.probabilities == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
        assert service.classes[answer.code] == expected.label
    assert [answer.heat is not None for answer in answers] == [False, True, False, False, False]
    assert service.answer(asks[2:3])[0].probabilities == pytest.approx(answers[2].probabilities, abs=1e-6)


def test_an_answer_holds_what_was_asked_for_and_no_more(folder: Path) -> None:
    service = opened(folder)
    pixels = service.fit((folder / "photos" / "dark" / "001.png").read_bytes())
    plain, compared, explained = service.answer(
        [Ask(pixels), Ask(pixels, nearest=3, compare=True), Ask(pixels, explain=True, about=0)]
    )
    assert (plain.heat, plain.nearest, plain.familiarity) == (None, (), None)
    assert (len(compared.nearest), compared.nearest[0].path) == (3, "dark/001.png")
    assert compared.familiarity is not None
    assert explained.heat is not None
    (other,) = service.answer([Ask(pixels, explain=True, about=1)])
    assert other.heat == pytest.approx(-explained.heat, abs=1e-5)
    assert decode.decode(service.drawn(png(9, (100, 80)), explained.heat))[0].shape == (192, 240, 3)


def test_only_photos_of_the_training_split_are_shown(folder: Path) -> None:
    service = opened(folder)
    assert decode.decode(service.thumbnail("dark/001.png"))[0].shape == (30, 40, 3)
    for path in ("../manifest.csv", "dark/009.png", "/etc/passwd"):
        with pytest.raises(KeyError):
            service.thumbnail(path)
    with pytest.raises(KeyError):
        opened(folder, images=None).thumbnail("dark/001.png")


def test_another_photo_that_took_the_place_of_one_of_the_training_split_is_not_shown(
    folder: Path, tmp_path: Path
) -> None:
    write_photo(tmp_path / "dark/001.png", 7)
    with pytest.raises(ImageError, match="it changed since the manifest was made"):
        opened(folder, images=tmp_path).thumbnail("dark/001.png")


def test_an_image_of_too_many_pixels_is_refused(folder: Path) -> None:
    with pytest.raises(ImageError, match="too many pixels: expected at most 10,000"):
        opened(folder, **ALONE).fit(png(9, (101, 100)))


def test_a_head_that_cannot_be_explained_is_served_without_maps(tmp_path: Path) -> None:
    register_tiny()
    rows = np.random.default_rng(0).normal(size=(10, 16)).astype(np.float32)
    head = KnnHead(neighbors=3, metric="cosine", class_weight=None).fit(rows, np.arange(10) % 2, None)
    record = {"classes": ["a", "b"], "spec": plan(size=SIZE, backbone="tiny").spec}
    save(head, tmp_path / "model", record)
    service = opened(tmp_path, **ALONE)
    (answer,) = service.answer([Ask(service.fit(png(9)), explain=True)])
    assert (service.explains, service.compares, answer.heat) == (False, False, None)
    assert sum(answer.probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": None}, "`features`: expected a file"),
        ({"manifest": None}, "`manifest`: expected a file"),
    ],
)
def test_what_belongs_together_is_given_together(folder: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        opened(folder, **changes)


def test_the_command_serves_what_it_is_told_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: dict[str, Any] = {}
    monkeypatch.setattr(server, "serve", lambda application, **options: served.update(options, app=application))
    options = ["--engine", "openvino", "--cache", str(folder / "cache"), "--port", "0", "--timeout", "5"]
    compared = ["--features", str(folder / "features.h5"), "--manifest", str(folder / "manifest.csv")]
    result = CliRunner().invoke(command, [str(folder / "model"), *options, *compared, "--max-bytes", "5000"])
    assert result.exit_code == 0, result.output
    assert (served["host"], served["port"], served["seconds"]) == ("127.0.0.1", 0, 5)
    _, about = said(served["app"], "GET", "/about")
    assert about == {
        "name": "model",
        "classes": ["bright", "dark"],
        "explains": True,
        "exact": True,
        "compares": True,
        "shows": False,
        "max_bytes": 5000,
    }
    status, answer = said(served["app"], "POST", "/predict?explain=true&nearest=1", files={"image": png(9)})
    assert (status, len(answer["nearest"]), answer["nearest"][0]["thumbnail"]) == (200, 1, None)
    assert answer["heat_map"].startswith("data:image/jpeg;base64,")


def test_what_is_no_model_is_one_line_and_status_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exit_code == 1
    assert "expected the folder of a head or a model, received a folder with neither" in result.output
    assert result.output.count("\n") == 1
