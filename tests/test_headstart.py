"""The Python way in: five lines from a folder to labels, with the options and defaults of the commands."""

import ast
import inspect
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import headstart as hs
from pipeline.api.results import Evaluation
from pipeline.audit.settings import AuditSettings
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.export.settings import ExportSettings
from pipeline.features.settings import ExtractSettings, ProbeSettings
from pipeline.features.spec import RANDOM
from pipeline.heads.settings import GrowthSettings, TrainSettings
from pipeline.inference.prediction import Prediction
from pipeline.inference.settings import PredictSettings
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.photos.settings import PrepareSettings
from pipeline.report.settings import ReportSettings
from pipeline.setting import described
from stages.__main__ import main
from tests import ROOT
from tests.fakes import register_tiny, write_classes
from tests.terminal import screens

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS: dict[str, type] = {
    "prepare": PrepareSettings,
    "probe": ProbeSettings,
    "extract": ExtractSettings,
    "train": TrainSettings,
    "finetune": FinetuneSettings,
    "find_learning_rate": FinetuneSettings,
    "evaluate": EvaluateSettings,
    "compare": CompareSettings,
    "load": PredictSettings,
    "audit": AuditSettings,
    "growth": GrowthSettings,
    "export": ExportSettings,
    "report": ReportSettings,
}
TINY: dict[str, Any] = {"backbone": "tiny", "weights": "none", "size": 32, "dtype": "float32"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_here: None) -> Path:
    """A folder to work in, with photos, and a cache of its own."""
    register_tiny()
    write_classes(tmp_path / "photos", {"dark": 12, "light": 12})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_five_lines_lead_from_a_folder_to_labels(here: Path) -> None:
    photos = hs.prepare("photos", stratify=True, workers=1)
    features = hs.extract(photos, **TINY)
    head = hs.train(features, head="logistic", C=0.1)
    evaluation = hs.evaluate(head)
    found = hs.load("headstart-out/heads/logistic").predict("photos/dark")
    assert photos.path == Path("headstart-out/manifest.csv")
    assert sum(sum(row.values()) for row in photos.counts.values()) == 24
    assert (features.path, features.computed) == (Path("headstart-out/features.h5"), 24)
    assert head.path == Path("headstart-out/heads/logistic")
    assert evaluation.path == Path("headstart-out/evaluation/logistic")
    assert 0 <= evaluation.metrics["accuracy"]["value"] <= 1
    assert [one.path for one in found] == sorted(Path("photos/dark").iterdir())
    assert all(one.label in ("dark", "light") for one in found)
    for shown in (photos, features, head, evaluation, found):
        assert str(shown).count("\n") > 0
        assert "<table>" in shown._repr_html_()
    assert set(photos.pictures) == {"samples", "class_counts", "image_sizes"}
    assert evaluation.pictures["reliability"]._repr_png_().startswith(b"\x89PNG")
    assert str(evaluation.pictures["classes"]) == "headstart-out/evaluation/logistic/plots/classes.png"
    with pytest.raises(KeyError, match=r"expected one of the pictures classes, .*, received curves"):
        evaluation.pictures["curves"]
    with pytest.raises(KeyError, match=r"\(none were drawn\), received views"):
        features.pictures["views"]


def test_what_was_written_before_is_opened_by_its_path(here: Path) -> None:
    hs.extract(hs.prepare("photos", stratify=True, workers=1), **TINY)
    photos = hs.Photos("headstart-out/manifest.csv", "photos")  # type: ignore[arg-type]
    again = hs.extract(photos, **TINY)
    assert (again.computed, again.reused) == (0, 24)
    head = hs.train(hs.Features("headstart-out/features.h5", photos), head="centroid")  # type: ignore[arg-type]
    model = hs.finetune(hs.Trained(head.path, again))
    assert model.path == Path("headstart-out/models/centroid")


@pytest.mark.parametrize("each", [6, 10])
def test_few_photos_go_from_prepare_to_the_report_with_the_defaults(here: Path, each: int) -> None:
    write_classes(here / "few", {"dark": each, "light": each})
    photos = hs.prepare("few", workers=1)
    features = hs.extract(photos, **TINY)
    heads = [hs.train(features), hs.train(features, head="dense", hidden=(8,), epochs=3)]
    assert len(photos.warnings) <= 1
    assert [list(head.scores) for head in heads] == [
        [f"{of} {name}" for of in ("train", "out-of-fold") for name in ("accuracy", "loss")]
    ] * 2
    assert [sum("not calibrated" in line for line in head.warnings) for head in heads] == [1, 1]
    results = [hs.evaluate(one) for one in (*heads, hs.finetune(heads[0]))]
    hs.compare(*results)
    out = Path("headstart-out")
    words = [here / "few", photos.path, features.path, out / "evaluation", here / "report.html"]
    more = ["--trained", out / "heads", "--trained", out / "models"]
    result = CliRunner().invoke(main, ["report", *map(str, [*words, *more])])
    assert result.exit_code == 0, result.output
    page = (here / "report.html").read_text()
    assert all(name in page for name in ("logistic", "dense"))


def test_views_are_shown_as_the_base_sees_them_and_counted_as_passes(here: Path, drawn: None) -> None:
    photos = hs.prepare("photos", val_fraction=0.1, test_fraction=0.1, stratify=True, workers=1)
    features = hs.extract(photos, **TINY, views=3, flip="horizontal")
    with Image.open(io.BytesIO(features.pictures["views"]._repr_png_())) as sheet:
        assert sheet.width < sheet.height  # four images, one below the other, each three times
    head = hs.train(features, head="dense", hidden=(), epochs=2)
    assert "6 passes over the photos in 2 epochs of 3 views" in str(head)
    assert "6 passes" not in str(hs.train(features))


def test_a_table_of_many_photos_ends_and_says_so() -> None:
    found = hs.Predictions([Prediction(Path(f"{number}.png"), "cat", {"cat": 1.0}, None) for number in range(25)])
    assert "19.png" in str(found) and "20.png" not in str(found)
    assert "and 5 more" in str(found)
    assert len(found) == 25


def test_evaluations_are_compared(here: Path) -> None:
    features = hs.extract(hs.prepare("photos", stratify=True, workers=1), **TINY)
    both = [hs.evaluate(hs.train(features, head=kind)) for kind in ("logistic", "centroid")]
    comparison = hs.compare(*both)
    assert {one.name for one in comparison.ranking} == {"logistic", "centroid"}
    assert comparison.verdict in str(comparison)


def test_the_data_is_audited_and_all_is_on_one_page(here: Path) -> None:
    features = hs.extract(hs.prepare("photos", stratify=True, workers=1), **TINY)
    audit = hs.audit(features, workers=1)
    assert (audit.path / "duplicates.csv").is_file()
    assert audit.counts["images"] == 24
    assert "leakage" in str(audit)
    growth = hs.growth(features, seeds=2)
    assert growth.forecast[1] <= growth.forecast[0] <= growth.forecast[2]
    assert "expected" in str(growth)
    page = hs.report(hs.evaluate(hs.train(features, head="logistic")), audit=audit.path)
    assert page.pictures == 24
    assert "headstart audit" not in page.path.read_text()  # what makes a part that is missing
    with pytest.raises(TypeError, match="expects evaluations"):
        hs.report()


def test_a_model_is_exported_and_compared_with_the_photos_that_it_was_trained_with(here: Path) -> None:
    features = hs.extract(hs.prepare("photos", stratify=True, workers=1), **TINY)
    exported = hs.export(hs.finetune(hs.train(features, head="logistic")), format="onnx")
    assert (exported.path / exported.files["onnx"]).is_file()
    assert exported.differences["onnx"] < 1e-4
    assert "not compared" not in str(exported)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_each_setting_with_its_default_and_help(step: str) -> None:
    function = getattr(hs, step)
    parameters = inspect.signature(function).parameters
    keywords = {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
    for name, one in described(STEPS[step]).items():
        assert keywords[name].default == (None if one.factory else one.default)
        assert f"\n{name} : " in function.__doc__
        assert one.about.help in function.__doc__


def test_an_unknown_option_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(TypeError, match=r"prepare\(\) has no option 'val_fracton': did you mean 'val_fraction'\?"):
        hs.prepare("photos", val_fracton=0.1)


def test_a_value_out_of_range_is_refused_before_any_work(here: Path) -> None:
    with pytest.raises(hs.InputError, match="`hash_distance`: expected a whole number of at least 0"):
        hs.prepare("photos", hash_distance=-1)
    assert not Path("headstart-out").exists()


def test_a_list_stands_for_several_values_and_none_for_no_value(here: Path) -> None:
    features = hs.extract(hs.prepare("photos", stratify=True, workers=1), **TINY)
    with pytest.raises(hs.InputError, match="`hidden`: expected with `head='dense'`, received `head='logistic'`"):
        hs.train(features, head="logistic", hidden=[8])
    assert features.warnings[0] == RANDOM
    assert hs.train(features, calibrate="none").warnings == [RANDOM]


def test_progress_in_a_notebook_is_one_output_that_is_empty_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data["text/plain"])

    notebook = ModuleType("IPython.display")
    notebook.display = lambda data, raw, display_id: Handle()  # type: ignore[attr-defined]
    for name, module in (("ipykernel", ModuleType("ipykernel")), ("IPython.display", notebook)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    with hs._progress("images") as advance:
        for done in (1, 2, 3):
            advance(done, 3)
    assert shown == ["1 of 3 images", "3 of 3 images", ""]


def test_progress_on_a_terminal_leaves_nothing_behind() -> None:
    program = "import headstart\nwith headstart._progress('images') as advance: advance(1, 2)\nprint('the result')"
    assert screens([sys.executable, "-c", program]) == (0, [["the result"]])


def test_importing_changes_nothing_and_loads_no_network() -> None:
    program = """if True:
        import os, signal, sys, warnings

        def state():
            mask = os.umask(0)
            os.umask(mask)
            return list(warnings.filters), dict(os.environ), [signal.getsignal(number) for number in range(1, 20)], mask

        before = state()
        import headstart

        heavy = ("tensorflow", "keras", "openvino", "matplotlib", "numpy", "scipy", "h5py", "PIL")
        print(before == state(), [name for name in heavy if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "True []\n"


@pytest.mark.parametrize("kind", ["folder", "package", "module"])
@pytest.mark.parametrize(
    "program", ["import headstart", "from stages.__main__ import main; main(['prepare', '--help'])"]
)
def test_another_pipeline_in_the_way_is_named(tmp_path: Path, kind: str, program: str) -> None:
    if kind == "module":
        (tmp_path / "pipeline.py").write_text("")
    else:
        (tmp_path / "pipeline").mkdir()
        if kind == "package":
            (tmp_path / "pipeline" / "__init__.py").write_text("")
    command = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {program}"
    result = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    if kind == "folder":  # without __init__.py it hides nothing: ours comes later and wins
        assert result.returncode == 0, result.stderr
        return
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert "expected its own package pipeline in" in last
    assert f"received {tmp_path / 'pipeline'}" in last
    assert "rename that, or start" in last


def test_it_stands_on_the_packages_alone() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse((ROOT / "headstart.py").read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([one.name for one in node.names] if isinstance(node, ast.Import) else [])
    }
    assert not any(name.startswith("stages") for name in imported)
    assert any(name.startswith("pipeline") for name in imported)


def test_metrics_are_named_as_in_the_terminal() -> None:
    estimates = {name: {"value": 0.5, "low": 0.25, "high": 0.75} for name in ("macro_f1", "roc_auc", "ece", "new_one")}
    evaluation = Evaluation(Path("evaluation"), estimates | {"n": 8}, mistakes=4)
    titles = [line.split("  ")[0] for line in str(evaluation).splitlines()[2:]]
    assert titles == ["macro F1", "ROC AUC", "calibration error", "new one"]
