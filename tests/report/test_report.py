"""What the stages left stands on one page, whatever classes are called; it keeps to its size and to its inputs."""

import csv
import functools
import hashlib
import html
import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.audit import audit
from pipeline.audit.settings import AuditSettings
from pipeline.errors import ArtefactError, InputError
from pipeline.evaluation import compare, evaluate
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.features import features_file, spec
from pipeline.features.probe import cut_file
from pipeline.features.spec import canonical
from pipeline.heads import train, training_time
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.resolve import Training
from pipeline.heads.ridge import RidgeHead
from pipeline.heads.selection import grid_search
from pipeline.models import training_history
from pipeline.photos import decode, manifest
from pipeline.plots.dataset import sizes
from pipeline.plots.scales import Scale
from pipeline.report import artefacts, charts, collect, page, projection, report, svg, thumbnails
from pipeline.report.collect import Inputs
from pipeline.report.report import LARGEST
from pipeline.report.sections import gallery, next_steps
from pipeline.report.sections.heatmaps import HeatMaps
from pipeline.report.sections.overview import Looks
from pipeline.report.sections.provenance import Commit
from pipeline.report.settings import ReportSettings
from pipeline.storage.atomic import publish_csv
from pipeline.storage.json_files import publish, publish_digests
from stages.report import report as command
from tests.fakes import quadrant_means

HOSTILE = "</script><script>window.hacked=true</script>"
CLASSES = ("dark", HOSTILE, 'grey & "light"')
STRANGE = '<img src=x onerror="window.hacked=true">.png'
SPEC = {
    "backbone": {"name": "tiny", "alpha": 1.0},
    "cut": "top",
    "decoder": {"name": "pillow", "version": "1"},
    "dtype": "float32",
    "pooling": "avg",
    "precision": "float32",
    "preprocessing": "tiny:preprocess_input",
    "resize": "squash",
    "size": 32,
    "weights": {"seed": 7},
}
SETTINGS = ReportSettings(title="pets", map_images=100, pictures=100, neighbours=3)
SPLITS = ("train",) * 8 + ("val",) * 2 + ("test",) * 4
SILENT = lambda done, total: None  # noqa: E731


def logistic(C=1.0):
    return LogisticHead(C=C, l1_ratio=0.0, class_weight=None, max_iter=200, seed=3)


def ridge():
    return RidgeHead(alpha=1.0, class_weight=None)


CURVES = [
    [1, 5, "head", 0, 0.9, 0.5, 1.0, 0.4],
    [2, 6, "fine-tuning", 0, 0.5, 0.8, 0.7, 0.6],
    [3, 7, "fine-tuning", 1, 0.3, 0.9, 0.8, 0.6],
]


class World:
    """Pictures of three classes, and all that the stages leave of them but a model."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows, vectors = [], {}
        for place, label in enumerate(CLASSES):
            for number, split in enumerate(SPLITS):
                draw = np.random.default_rng((place, number))
                coarse = np.clip(draw.normal(50 + 80 * place, 22, (4, 4, 3)), 0, 255).astype(np.uint8)
                picture = Image.fromarray(coarse).resize((48, 36), Image.Resampling.BICUBIC)
                # Two images of the test split are labelled wrong, so that every head has mistakes.
                name = STRANGE if (place, number) == (0, 13) else f"{place}-{number:02}.png"
                called = CLASSES[(place + 2) % 3] if number == 13 and place < 2 else label
                path = root / "photos" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
                digest = hashlib.sha256(path.read_bytes()).digest()
                self.rows.append(manifest.Row(name, digest, called, split, 48, 36, "PNG"))
                vectors[digest] = quadrant_means(np.asarray(picture.resize((32, 32)))[None])[0]
        manifest.write(manifest.from_rows(self.rows), root / "manifest.csv")
        publish_csv(root / "quarantine.csv", ["path", "reason"], [["<b>broken</b>.png", "damaged: <i>cut</i> off"]])
        publish_digests(root, ["quarantine.csv"])
        digests = np.frombuffer(b"".join(sorted(vectors)), np.uint8).reshape(-1, 32)
        block = np.stack([vectors[digest.tobytes()] for digest in digests])
        kept = {"spec": canonical(SPEC), "digests": digests, "row_shape": (12,), "dtype": "float32"}
        features_file.write(root / "features.h5", **kept, blocks=[block])
        self._probe()
        self._heads()
        self._audit()
        told = {"images": 42, "distinct": 42, "views": 1, "computed": 40, "reused": 2, "quarantined": 0}
        more = {"images_per_second": 12.5, "engine": "openvino 1", "precision": "float32", "spec": "0"}
        publish(root / "extraction.json", told | more)

    def _probe(self) -> None:
        why = "top with avg: 0.900 of 30 images right; nothing cheaper does as well"
        cut_file.write(self.root / "cut.json", backbone="tiny", cut="top_relu", pooling="avg", why=why, figures=None)
        names = ("cut", "layer", "depth", "pooling", "accuracy", "accuracy_low", "accuracy_high")
        rows = [
            [
                cut,
                layer,
                depth,
                pooling,
                0.5 + 0.1 * depth,
                0.45 + 0.1 * depth,
                0.55 + 0.1 * depth,
                0.1,
                "nothing",
                16,
                32,
                1e6,
            ]
            for depth, (cut, layer) in enumerate([("block-1", "add"), ("top", "top_relu")], 1)
            for pooling in ("avg", "max")
        ]
        publish_csv(
            self.root / "layers.csv", [*names, "squared_error", "shown", "features", "bytes", "multiply_adds"], rows
        )
        publish_digests(self.root, ["layers.csv"])

    def _heads(self) -> None:
        paths = (self.root / "manifest.csv", self.root / "features.h5")
        search = grid_search.Search(folds=0, trials=20, fixed=frozenset({"l1_ratio"}), jobs=1, seed=5)
        for name, head, searched in (("logistic", logistic(), search), ("ridge", ridge(), None)):
            with patch("pipeline.heads.solvers.regularisation_path._losing", lambda tried: len(tried) > 17):
                train.fit(*paths, self.root / "heads" / name, Training(head=head, search=searched))
            evaluate.evaluate(
                self.root / "photos", *paths, self.root / "heads" / name, self.root / "out" / name,
                EvaluateSettings(resamples=100),
            )  # fmt: skip
            training_time.write(self.root / "reports" / f"{name}.json", training_time.Cost("train", 1.25))
        # As a fine-tuned model leaves them.
        publish_csv(self.root / "out/ridge/learning_curves.csv", training_history.COLUMNS, CURVES)
        publish_digests(self.root / "out/ridge", ["learning_curves.csv"])
        compare.compare(
            [self.root / "out"],
            self.root / "comparison",
            CompareSettings(reports=self.root / "reports"),
        )

    def judged(self):
        """Return the evaluations by name, with their heads."""
        return {one.name: one for one in artefacts.evaluated([self.root / "out"], [self.root / "heads"], None)}

    def _audit(self) -> None:
        rules = AuditSettings(hash_distance=0, min_cosine=0.999, neighbours=3, folds=2, workers=1)
        paths = (self.root / "photos", self.root / "manifest.csv", self.root / "features.h5", self.root / "audit")
        audit.audit(*paths, rules, head=logistic(), progress=SILENT)

    def inputs(self, **changes) -> Inputs:
        given = {
            "images": self.root / "photos",
            "manifest": self.root / "manifest.csv",
            "features": self.root / "features.h5",
            "evaluations": [self.root / "out"],
            "probe": self.root / "cut.json",
            "extraction": self.root / "extraction.json",
            "audit": self.root / "audit",
            "trained": [self.root / "heads"],
            "comparison": self.root / "comparison",
            "reports": self.root / "reports",
        }
        return Inputs(**given | changes)

    def bare(self) -> Inputs:
        """Only what is required, and one evaluation."""
        without = dict.fromkeys(("probe", "extraction", "audit", "comparison", "reports"))
        return self.inputs(**without, trained=(), evaluations=[self.root / "out/logistic"])


def written(inputs, path, settings=SETTINGS, **changes):
    given = {"commit": Commit("abc123", False), "looks": Looks(5, True), "explain": None}
    summary = report.report(inputs, path, settings, **given | changes, progress=SILENT)
    return summary, path.read_text(encoding="utf-8")


def told(text):
    """What a reader sees: without elements, space as one."""
    text = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def known(text):
    """What the page's script knows."""
    return json.loads(re.search(r'<script type="application/json" id="known">(.*?)</script>', text, re.DOTALL)[1])


@functools.cache
def one_world(folder):
    """The same world for all tests of a session: it takes seconds to make, and no test changes it."""
    return World(folder / "world of the report")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return one_world(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    return written(world.inputs(), tmp_path_factory.mktemp("page") / "report.html")


# --- what stands on it


def test_the_verdict_comes_first_and_is_that_of_the_comparison(world, made):
    _, text = made
    summary = json.loads((world.root / "comparison/comparison.json").read_text())
    words = told(text)
    best = summary["ranking"][0]
    right = round(best["accuracy"] * summary["images"])
    assert f"{best['name']} gets {right} of {summary['images']} test images right" in words
    assert words.index(summary["verdict"]) < words.index("The data")
    assert "At least 5 results on this test split" in words


def test_every_part_is_there(made):
    _, text = made
    sections = re.findall(r'<section id="(\w+)"', text)
    assert sections == ["verdict", "data", "layers", "heads", "errors", "map", "provenance", "next"]
    words = told(text)
    assert "1 file was not accepted" in words
    assert "damaged: <i>cut</i> off" in words
    assert "top with avg: 0.900 of 30 images right" in words
    assert "logistic: seed 3" in words
    assert "spec: weights.seed 7" in words
    assert "40 forwarded" in re.sub(r"forwarded (\d+)", r"\1 forwarded", words)
    assert "Commit abc123 ." in words
    assert "1.2 s" in words
    assert "logistic: search.seed 5" in words
    assert "The search: 18 candidates; 2 more not tried: losing. Ringed" in words
    assert "Training curves; ringed is the epoch that is kept; at the dotted line fine-tuning starts." in words
    assert "kept: epoch 3, pass 7, loss 0.8000 on validation" in words
    assert "passes over the photos" in words
    assert text.count('class="chart"') == 7  # sizes, layers, the search, loss and accuracy, calibration twice


def test_what_was_not_given_is_left_out_and_the_step_named(world, tmp_path):
    _, text = written(world.bare(), tmp_path / "report.html", commit=None, looks=None)
    words = told(text)
    for step in ("a quick head by probe", "for by audit", "by the report of extract", "by the report of train"):
        assert step in words
    assert "heads and models as trained" in words
    assert "One model was judged: there is nothing to compare it with." in words
    assert "No commit is known" in words
    assert "Looked at" not in words


def test_a_fixed_cut_is_told_without_a_plot(world, tmp_path):
    cut_file.write(tmp_path / "cut.json", backbone="tiny", cut="top", pooling="avg", why="as --cut says", figures=None)
    columns = (
        "cut",
        "depth",
        "pooling",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "shown",
        "bytes",
        "multiply_adds",
    )
    publish_csv(tmp_path / "layers.csv", columns, [])
    publish_digests(tmp_path, ["layers.csv"])
    _, text = written(world.inputs(probe=tmp_path / "cut.json"), tmp_path / "report.html")
    assert "as --cut says. The layers were not compared" in told(text)


def test_the_confusions_add_up_to_the_test_split(world, made):
    _, text = made
    cells = re.findall(r'data-model="(\d)" data-row="(\d)" data-column="(\d)" data-count="(\d+)"', text)
    for model, name in enumerate(place["name"] for place in known_ranking(world)):
        own = [(int(row), int(column), int(count)) for number, row, column, count in cells if int(number) == model]
        assert sum(count for *_, count in own) == 12
        accuracy = json.loads((world.root / "out" / name / "all_metrics.json").read_text())["accuracy"]
        assert sum(count for row, column, count in own if row == column) / 12 == pytest.approx(accuracy, abs=1e-6)


def known_ranking(world):
    return json.loads((world.root / "comparison/comparison.json").read_text())["ranking"]


def test_the_script_knows_of_each_test_image_what_each_model_said(world, made):
    data = known(made[1])
    for model in data["models"]:
        with (world.root / "out" / model["name"] / "predictions.csv").open(newline="") as file:
            judged = {row["path"]: row for row in csv.DictReader(file)}
        for place, number in enumerate(data["tested"]):
            row = judged[data["images"]["path"][number]]
            assert data["classes"][model["predicted"][place]] == row["predicted"]
            assert model["confidence"][place] == pytest.approx(1000 * float(row["confidence"]), abs=0.51)


def test_the_most_confident_mistake_is_chosen_at_first(world, made):
    data = known(made[1])
    name = known_ranking(world)[0]["name"]
    with (world.root / "out" / name / "predictions.csv").open(newline="") as file:
        wrong = [row for row in csv.DictReader(file) if row["correct"] == "0"]
    surest = max(wrong, key=lambda row: float(row["confidence"]))
    assert data["images"]["path"][data["first"]] == surest["path"]


@pytest.mark.parametrize(("bins", "line"), [(1, ""), (2, " (dashed)")])
def test_reliability_is_drawn_where_an_evaluation_left_it(world, tmp_path, bins, line):
    names = ["temperature", "images", "least", "most", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    rows = [
        *([1.0, 12 // bins, 0.5, 1, 0.9, 0.7, 0.5, 0.9] for _ in range(bins)),
        [1.5, 6, 0.5, 0.7, 0.6, 0.6, 0.4, 0.8],
        [1.5, 6, 0.7, 1, 0.9, 0.9, 0.7, 1],
    ]
    publish_csv(copied(world.root / "out/logistic", tmp_path / "logistic") / "reliability.csv", names, rows)
    path = tmp_path / "logistic/all_metrics.json"
    ece = {"ece": 0.01, "ece_low": 0.0, "ece_high": 0.02, "uncalibrated_ece": 0.2}
    ece |= {"uncalibrated_ece_low": 0.1, "uncalibrated_ece_high": 0.3}
    path.write_text(json.dumps(json.loads(path.read_text()) | ece))
    publish_digests(path.parent, [path.name, "reliability.csv"])
    _, text = written(replace(world.bare(), evaluations=[tmp_path / "logistic"]), tmp_path / "report.html")
    words = told(text)
    assert f"calibration error is 0.010 [0.000, 0.020], at a temperature of 1.500; before{line} it was 0.200" in words
    assert "sure to 0.600, right in 0.600 [0.400, 0.800] of 6" in words


def test_labels_that_are_doubtful_are_shown_behind_those_that_are_likely_wrong(world, tmp_path):
    rows = [[f"0-0{n}.png", "train", CLASSES[0], CLASSES[2], 0.9 - n / 10, n % 2] for n in range(4)]
    columns = ("path", "split", "label", "suggested", "p_suggested", "confident")
    publish_csv(copied(world.root / "audit", tmp_path / "audit") / "label_issues.csv", columns, rows)
    counts = json.loads((tmp_path / "audit/audit.json").read_text()) | {"label_issues": 2, "doubtful_labels": 14}
    (tmp_path / "audit/audit.json").write_text(json.dumps(counts))
    publish_digests(tmp_path / "audit", ["audit.json", "label_issues.csv"])
    _, text = written(world.inputs(audit=tmp_path / "audit"), tmp_path / "report.html")
    wrong, doubtful = text.split("<h4>Labels that are doubtful: the first 2 of 14</h4>")
    wrong = wrong.split("<h4>Labels that are likely wrong</h4>")[1]
    doubtful = doubtful.split("</ul>")[0]
    assert re.findall(r"0-0\d\.png", wrong) == ["0-01.png", "0-03.png"]
    assert re.findall(r"0-0\d\.png", doubtful) == ["0-00.png", "0-02.png"]
    assert doubtful.count("data-picture=") == 2
    assert 'labelled dark , perhaps grey & "light" (0.90)' in told(doubtful)


def test_the_headline_says_that_a_base_was_never_trained(made, world, tmp_path, monkeypatch):
    said = "test images right, on a base with random weights The base was never trained ( weights: none )"
    assert said in told(made[1])
    monkeypatch.setattr(spec, "random_base", lambda described: [])
    _, text = written(world.bare(), tmp_path / "report.html")
    assert "random weights" not in told(text)


def test_the_page_ends_with_what_next_and_the_commands_to_type(world, made):
    at, last = world.root, told(made[1].split('<section id="next"')[1])
    assert f"headstart extract '{at}/photos' '{at}/manifest.csv' '{at}/features.h5' --backbone tiny" in last


def test_what_more_photos_would_bring_is_read_from_the_learning_curve(world, tmp_path):
    publish(tmp_path / "growth.json", {"gain": 0.021})
    found = next_steps.facts(collect.read(world.inputs(growth=tmp_path)), SPEC)
    assert found.gain == pytest.approx(2.1)
    assert next_steps.facts(collect.read(world.inputs()), SPEC).gain is None


def copied(source, target):
    return shutil.copytree(source, target)


def test_heat_maps_stand_beside_the_mistakes_they_are_of(world, tmp_path):
    asked = []

    def explain(one, files, labels):
        asked.append((one.name, [file.name for file in files], list(labels)))
        return [np.full((20, 20, 3), 200, np.uint8), *[None] * (len(files) - 1)]

    _, text = written(world.bare(), tmp_path / "report.html", explain=explain)
    (one,) = asked
    with (world.root / "out/logistic/predictions.csv").open(newline="") as file:
        said = {row["path"]: row["predicted"] for row in csv.DictReader(file) if row["correct"] == "0"}
    assert one[0] == "logistic"
    assert dict(zip(one[1], one[2], strict=True)) == said
    assert text.count("laid over it") == 1
    assert "heat_maps" not in told(text)


class Upper:
    """An explainer of any head, which finds all evidence in the upper half."""

    classes, geometry = sorted(CLASSES), "squash"
    fit = staticmethod(functools.partial(decode.fit, size=16, geometry="squash"))

    def __init__(self, folder, runtime):
        self.asked = []
        if folder.name == "ridge":
            raise InputError("ridge: no map of places")

    def heat(self, pixels, codes):
        assert pixels.shape[1:] == (16, 16, 3)
        assert codes.tolist() == [2] * len(pixels)
        return np.repeat(np.array([[[1.0, 1.0], [0.0, 0.0]]], np.float32), len(pixels), axis=0)


@pytest.mark.parametrize(
    ("name", "tells", "found"),
    [
        ("final", True, "logistic"),  # named otherwise than the head
        ("ridge", True, "logistic"),  # named as another head is
        ("logistic", False, "logistic"),  # of an earlier version, which told no digest
        ("final", False, None),
    ],
)
def test_how_a_head_was_made_is_found_by_what_was_evaluated(world, tmp_path, name, tells, found):
    folder = copied(world.root / "out/logistic", tmp_path / name)
    if not tells:
        (folder / "evaluated.json").unlink()
    (one,) = artefacts.evaluated([folder], [world.root / "heads"], None)
    assert (one.trained, one.record is None) == (found and world.root / "heads" / found, found is None)


def test_a_heat_map_is_drawn_over_each_picture_that_can_be_read(world, monkeypatch):
    monkeypatch.setattr("pipeline.report.sections.heatmaps.Explainer", Upper)
    draw, judged = HeatMaps(weights=None, cache=None), world.judged()
    files = [world.root / "photos" / name for name in ("2-00.png", "gone.png", "2-01.png")]
    first, none, second = draw(judged["logistic"], files, [sorted(CLASSES)[2]] * 3)
    assert none is None
    for drawn, file in ((first, files[0]), (second, files[2])):
        plain = np.asarray(Image.open(file).convert("RGB"))
        assert drawn.shape == (72, 96, 3)  # twice its size: a picture of few pixels is enlarged
        np.testing.assert_array_equal(drawn[-2:, ::2], plain.repeat(2, axis=0)[-2:])
        assert (drawn[0, ::2] != plain[0]).any()


def test_what_cannot_be_explained_is_left_out_and_said(world, monkeypatch):
    monkeypatch.setattr("pipeline.report.sections.heatmaps.Explainer", Upper)
    draw, ridge = HeatMaps(weights=None, cache=None), world.judged()["ridge"]
    for one in (ridge, replace(ridge, trained=None)):
        assert draw(one, [world.root / "photos/2-00.png"], ["dark"]) == [None]
    assert draw.warnings == ["no heat maps of ridge: ridge: no map of places"]


# --- nothing that was written by others gets out of hand


def test_labels_and_paths_are_text(made):
    _, text = made
    assert "<script>window.hacked" not in text
    assert "<img src=x" not in text
    assert "<b>broken</b>" not in text
    assert HOSTILE in told(text)
    data = known(text)
    assert HOSTILE in data["classes"]
    assert STRANGE in data["images"]["path"]
    assert len(re.findall(r"</script>", text)) == 2  # the data and the script


def test_the_policy_admits_the_own_style_and_script_alone(made):
    _, text = made
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy).split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert rules["script-src"] == page._hash(script)
    assert rules["style-src"].split() == [page._hash(style) for style in styles]
    assert " style=" not in text
    assert not re.search(r"\son\w+=\"", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_equal_inputs_give_equal_bytes(world, made, tmp_path):
    again, text = written(world.inputs(), tmp_path / "report.html")
    assert text == made[1]
    assert again.bytes == len(text.encode())


def test_evaluations_of_other_images_are_refused(world, tmp_path):
    copied(world.root / "out/logistic", tmp_path / "logistic")
    path = tmp_path / "logistic/predictions.csv"
    path.write_text(re.sub(r",[0-9a-f]{64},", f",{'0' * 64},", path.read_text(), count=1))
    publish_digests(path.parent, [path.name])
    with pytest.raises(
        ArtefactError, match=r"logistic: expected an evaluation on images and classes of .*manifest\.csv"
    ):
        written(replace(world.bare(), evaluations=[tmp_path / "logistic"]), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_comparison_of_other_evaluations_is_refused(world, tmp_path):
    copied(world.root / "comparison", tmp_path / "comparison")
    path = tmp_path / "comparison/comparison.json"
    path.write_text(path.read_text().replace('"ridge"', '"other"'))
    publish_digests(path.parent, [path.name])
    with pytest.raises(
        ArtefactError, match=r"comparison\.json: expected a comparison of logistic .* received one of .*other"
    ):
        written(world.inputs(comparison=tmp_path / "comparison"), tmp_path / "report.html")


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("extraction", "report.json", "{}", "expected images: a whole number .*, received none; run `hs.extract"),
        ("extraction", "report.json", "no JSON", "expected a report of an extraction in JSON"),
        ("probe", "none.json", None, "none.json: expected a cut, received no such file"),
        ("audit", "audit.json", "{}", "audit.json: expected"),
    ],
)
def test_a_damaged_input_is_named(world, tmp_path, option, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
        publish_digests(tmp_path, [name])
    path = tmp_path if option == "audit" else tmp_path / name
    with pytest.raises(ArtefactError, match=message):
        written(world.inputs(**{option: path}), tmp_path / "report.html")


def test_two_evaluations_of_one_name_are_refused(world, tmp_path):
    copied(world.root / "out/logistic", tmp_path / "logistic")
    with pytest.raises(InputError, match="logistic twice"):
        written(world.inputs(evaluations=[world.root / "out", tmp_path / "logistic"]), tmp_path / "report.html")


def test_an_image_that_changed_has_no_picture_and_is_named(world, tmp_path):
    for path in (world.root / "photos").iterdir():
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "photos/0-00.png").write_bytes((world.root / "photos/0-01.png").read_bytes())
    (tmp_path / "photos/0-02.png").unlink()
    summary, text = written(replace(world.bare(), images=tmp_path / "photos"), tmp_path / "report.html")
    (warning,) = summary.warnings
    assert re.fullmatch(r"no picture of 0-0[02]\.png \(.*\) and 1 more", warning)
    data = known(text)["images"]
    assert [data["width"][data["path"].index(name)] for name in ("0-00.png", "0-01.png", "0-02.png")] == [0, 48, 0]


# --- thumbnails keep to their budget


def noise(count, side):
    """Pictures that compress as badly as any."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("budget", [400_000, 100_000, 30_000])
def test_sheets_keep_to_their_budget_even_of_noise(budget):
    made = thumbnails.atlas(noise(60, 48), budget)
    assert 0 < made.bytes <= budget
    assert made.bytes == sum(len(thumbnails.address(sheet)) - len(thumbnails.address(b"")) for sheet in made.sheets)


def test_a_smaller_budget_makes_smaller_pictures_and_in_the_end_none():
    wide = [thumbnails.atlas(noise(60, 48), budget).shapes.max() for budget in (400_000, 60_000, 500)]
    assert wide[0] > wide[1] > wide[2] == 0


def test_a_thumbnail_is_found_where_the_page_looks_for_it():
    shown = [np.full((20, 32, 3), (level, 0, 255 - level), np.uint8) for level in range(0, 250, 5)]
    made = thumbnails.atlas([*shown, None], 10**6)
    assert made.pixelated
    for number, one in enumerate(shown):
        sheet = np.asarray(Image.open(io.BytesIO(made.sheets[number // made.columns**2])))
        place = number % made.columns**2
        top, left = made.cell * (place // made.columns) + 1, made.cell * (place % made.columns) + 1
        width, height = made.shapes[number]
        np.testing.assert_array_equal(sheet[top : top + height, left : left + width], one)
    assert made.shapes[-1].tolist() == [0, 0]


def test_ten_thousand_noisy_pictures_fit_by_arithmetic():
    """A WebP of noise takes fewer bytes a pixel at the smallest side and least quality than the budget leaves."""
    side, count = thumbnails.SIDES[-1], 10_000
    part = thumbnails._atlas(noise(400, side), side, thumbnails.QUALITIES[-1])
    assert part.bytes / 400 * count < 0.8 * LARGEST


def test_many_pictures_start_small_and_few_large():
    assert thumbnails.first_side(1000, LARGEST) == 96
    assert thumbnails.first_side(10_000, LARGEST) == 48
    assert thumbnails.first_side(10**6, LARGEST) == 16


# --- which images, where


def many(count):
    digests = [hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(count)]
    rows = [
        manifest.Row(f"{n}.png", digest, "ab"[n % 2], ("train", "test")[n % 5 == 0], 8, 8, "PNG")
        for n, digest in enumerate(digests)
    ]
    return manifest.from_rows(rows).distinct("train", "test")


def test_named_images_come_before_the_map_and_the_map_before_other_test_images():
    everything = many(300)
    last = [everything.digests[row].tobytes() for row in (299, 298)]
    chosen = gallery.choose(everything, last, map_images=50, most=60)
    assert len(chosen) == 60
    assert all(chosen.number(digest) is not None for digest in last)
    assert chosen.mapped.tolist() == list(range(50))
    others = [chosen.images.splits[number] for number in range(50, 58)]
    assert others == ["test"] * 8
    assert chosen.number(everything.digests[297].tobytes()) is None


def test_neighbours_are_the_nearest_by_direction_and_never_the_image_itself():
    rows = np.random.default_rng(1).normal(size=(700, 6)).astype(np.float32)
    places, cosines = projection.nearest(rows, 4)
    unit = rows - rows.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    products = unit @ unit.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_allclose(cosines, -np.sort(-products, axis=1)[:, :4], atol=1e-5)
    assert (places != np.arange(700)[:, None]).all()


@pytest.mark.parametrize("count", [2, 3])
def test_few_images_have_few_neighbours_and_a_map(count):
    rows = np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)
    places, _ = projection.nearest(rows, 4)
    assert places.shape == (count, count - 1)
    assert projection.plane(rows, method="auto", seed=0).places.shape == (count, 2)


@pytest.mark.parametrize(
    ("method", "words"), [("auto", "t-SNE (perplexity 30, seed 0)"), ("pca", "the first 2 principal")]
)
def test_the_map_keeps_what_is_alike_together_and_says_how(method, words):
    draw = np.random.default_rng(0)
    rows = np.concatenate([draw.normal(centre, 0.1, (50, 8)) for centre in (draw.normal(size=8), draw.normal(size=8))])
    found = projection.plane(rows.astype(np.float32), method=method, seed=0)
    assert found.method.startswith(words)
    assert found.places.min() == 0
    assert found.places[:, 0].max() == 1
    assert abs(found.places[:50].mean(axis=0) - found.places[50:].mean(axis=0)).max() > 0.3
    again = projection.plane(rows.astype(np.float32), method=method, seed=0)
    np.testing.assert_array_equal(found.places, again.places)


# --- charts


def test_axes_have_round_numbers():
    assert Scale(0, 1).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(0.0007, 2, "log").ticks(7) == pytest.approx([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1])
    assert Scale(0.6, 0.992, "odds").ticks(6)[-1] == 0.99


@pytest.mark.parametrize("kind", ["linear", "log", "odds"])
def test_a_scale_maps_its_ends_to_its_ends_and_keeps_what_lies_beyond_inside(kind):
    scale = svg.Axis(Scale(0.1, 0.9, kind), 10, 90)
    assert (scale(0.1), scale(0.9), scale(0.0), scale(1.0)) == pytest.approx((10, 90, 10, 90))
    assert math.isclose(scale(0.5), 50) == (kind != "log")


def test_a_mark_escapes_what_it_says():
    drawn = svg.tag("circle", svg.tag("title", "<b>"), class_='"x', data_row=3)
    assert drawn == '<circle class="&#34;x" data-row="3"><title>&lt;b&gt;</title></circle>'


def test_sizes_that_differ_much_are_drawn_on_a_scale_of_logarithms():
    drawn = charts.sizes(sizes(np.array([10, 4000]), np.array([10, 3000])))
    assert ">1,000<" in drawn
    assert "10 by 10 px: 1 image" in drawn


# --- the command


def test_the_command_writes_the_page_and_tells_what_is_in_it(world, tmp_path):
    at = world.root
    arguments = [at / "photos", at / "manifest.csv", at / "features.h5", at / "out", tmp_path / "report.html"]
    options = ["--probe", at / "cut.json", "--trained", at / "heads", "--comparison", at / "comparison", "--no-git"]
    result = CliRunner().invoke(command, [str(argument) for argument in [*arguments, *options, "--map-images", 20]])
    assert result.exit_code == 0, result.output
    size = (tmp_path / "report.html").stat().st_size
    assert re.fullmatch(rf"42 pictures, 20 on the map, {size / 1e6:.1f} MB -> .*report\.html\n", result.stdout)
    text = (tmp_path / "report.html").read_text()
    assert "<title>photos: a Headstart report</title>" in text
    assert "No commit is known" in text


def test_the_command_names_what_is_wrong_in_one_line(world, tmp_path):
    at = world.root
    arguments = [at / "photos", at / "manifest.csv", at / "features.h5", tmp_path, tmp_path / "report.html"]
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 1
    assert "expected predictions.csv of `headstart evaluate`" in result.stderr


def test_previews_of_large_photos_are_decoded_small_and_keep_their_shape():
    wide = Image.effect_noise((1600, 800), 40).convert("RGB")
    file = io.BytesIO()
    wide.save(file, "JPEG")
    assert decode.preview(file.getvalue(), side=96).shape == (48, 96, 3)
