"""A default is written once: the options of a command are the settings of its dataclass, and nothing else."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml
from click.testing import CliRunner

from pipeline.audit.settings import AuditSettings
from pipeline.evaluation.compare_settings import CompareSettings
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.export.settings import ExportSettings
from pipeline.features.settings import ExtractSettings, ProbeSettings
from pipeline.heads.settings import GrowthSettings, TrainSettings
from pipeline.inference.serving.settings import ServeSettings
from pipeline.inference.settings import PredictSettings
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.photos.settings import PrepareSettings
from pipeline.report.settings import ReportSettings
from pipeline.setting import build, check, described
from stages.options.of_settings import settings_of
from stages.options.translate import in_options

# Of each command its settings, and the options that are the command line's own: where results go, and what to do.
COMMANDS: Mapping[str, tuple[type, set[str]]] = {
    "prepare": (PrepareSettings, set()),
    "probe": (ProbeSettings, set()),
    "extract": (ExtractSettings, {"planned", "report"}),
    "train": (TrainSettings, {"report"}),
    "evaluate": (EvaluateSettings, {"report"}),
    "compare": (CompareSettings, set()),
    "predict": (PredictSettings, {"output"}),
    "finetune": (FinetuneSettings, {"report", "find_learning_rate"}),
    "audit": (AuditSettings, {"fail_on"}),
    "growth": (GrowthSettings, set()),
    "export": (ExportSettings, set()),
    "report": (ReportSettings, {"git"}),
    "serve": (ServeSettings, set()),
}
OF_ALL = {"verbose", "quiet"}


def command(name: str) -> click.Command:
    found: click.Command = getattr(importlib.import_module(f"stages.{name}"), name)
    return found


def options(name: str) -> dict[str, click.Option]:
    return {str(one.name): one for one in command(name).params if isinstance(one, click.Option)}


def parsed(name: str, kind: type) -> Any:
    """The settings that a command makes of a command line without an option."""
    arguments = ["x"] * sum(isinstance(one, click.Argument) for one in command(name).params)
    return build(kind, command(name).make_context(name, arguments).params)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_a_setting_and_every_setting_an_option(name: str) -> None:
    kind, own = COMMANDS[name]
    assert options(name).keys() - OF_ALL - own == described(kind).keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_options_has_the_defaults_of_its_settings(name: str) -> None:
    kind, _ = COMMANDS[name]
    assert parsed(name, kind) == kind()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_range_and_choices_of_an_option_are_those_of_its_setting(name: str) -> None:
    kind, _ = COMMANDS[name]
    for key, one in described(kind).items():
        option = options(name)[key]
        assert option.opts == [f"--{key.replace('_', '-')}"]
        assert (option.help or "").startswith(in_options(one.about.help))
        if isinstance(option.type, click.Choice):
            assert tuple(option.type.choices) == one.choices
        if isinstance(option.type, click.IntRange | click.FloatRange):
            least = one.about.least if one.about.above is None else one.about.above
            most = one.about.most if one.about.below is None else one.about.below
            assert (option.type.min, option.type.max) == (least, most)
            assert (option.type.min_open, option.type.max_open) == (
                one.about.above is not None,
                one.about.below is not None,
            )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_defaults_are_in_their_own_ranges(name: str) -> None:
    check(COMMANDS[name][0]())


# An option a command, as a user would give it in vain.
WITHOUT_EFFECT: Final = (
    ("prepare", "--hash-distance 20", "--hash-distance: expected with --group-near-duplicates, received none"),
    ("probe", "--cut top --sample 500", "--sample: expected with --cut auto, received --cut top"),
    ("probe", "--cut top --margin 0.1", "--margin: expected with --cut auto, received --cut top"),
    ("probe", "--weights-seed 3", "--weights-seed: expected with --weights none or --compare"),
    ("extract", "--flip horizontal", "--flip: expected with --views of 2 or more, received --views 1"),
    ("extract", "--workers 2", "--workers: expected with --executor dask, received --executor local"),
    ("extract", "--scheduler tcp://a:1", "--scheduler: expected with --executor dask, received --executor local"),
    ("extract", "--weights-seed 3", "--weights-seed: expected with --weights none, received --weights imagenet"),
    ("extract", "--cut-file cut.json --pooling avg", "--pooling: expected with no --cut-file"),
    ("extract", "--plan --report r.json", "--report: expected without --plan"),
    ("train", "--head dense --hidden none --activation gelu", "--activation: expected with --hidden, received none"),
    ("train", "--folds 5", "--folds: expected with --search, received none"),
    ("train", "--positive cat", "--positive: expected with --precision-at-least or --recall-at-least, received none"),
    ("finetune", "--learning-rate 0.00001", "--learning-rate: expected with --epochs of 1 or more"),
    ("finetune", "--epochs 0 --cut image", "--cut: expected with --epochs of 1 or more, received --epochs 0"),
    ("finetune", "--epochs 1 --zoom 0.1", "--zoom: expected with --live-augment or --cut image, received none"),
    ("finetune", "--new-head", "--new-head: expected with --epochs of 1 or more"),
    ("finetune", "--new-conv 4", "--new-conv: expected with --epochs of 1 or more"),
    ("export", "--sample 4", "--sample: expected with --images, received none"),
    ("export", "--format onnx --quantize int8", "--quantize: expected with --format tflite, received --format onnx"),
    ("predict", "--neighbours 3", "--neighbours: expected with --familiarity, received none"),
    ("predict", "--features f.h5", "--features: expected with --nearest of 1 or more or --familiarity, received none"),
    ("serve", "--images photos", "--images: expected with --features, received none"),
    ("serve", "--batch-size 1 --batch-wait 0.1", "--batch-wait: expected with --batch-size of 2 or more"),
    ("report", "--weights none", "--weights: expected with --heat-maps, received none"),
    ("report", "--heat-maps", "--heat-maps: expected with --trained, received none"),
    ("backbones", "--size 32", "--size: expected with the NAME of a base, received none"),
)


@pytest.mark.parametrize(("name", "words", "message"), WITHOUT_EFFECT)
def test_an_option_that_can_have_no_effect_is_refused_before_anything_is_read(
    name: str, words: str, message: str
) -> None:
    arguments = ["x"] * sum(isinstance(one, click.Argument) and one.required for one in command(name).params)
    result = CliRunner().invoke(command(name), [*arguments, *words.split()])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_what_an_option_needs_is_an_option_of_the_same_command(name: str) -> None:
    known = described(COMMANDS[name][0])
    assert all(any(need.name in known for need in one.about.needs) for one in known.values() if one.about.needs)


def test_the_options_of_params_yaml_are_taken_as_they_are() -> None:
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    for name in COMMANDS.keys() & params.keys() - {"train", "report"}:
        values = params[name] | (params["base"] if name in ("probe", "extract") else {})
        words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
        words += ["--images", "x"] if name == "export" else []
        arguments = ["x"] * sum(isinstance(one, click.Argument) for one in command(name).params)
        with command(name).make_context(name, [*arguments, *words]) as context:
            settings_of(COMMANDS[name][0], context.params)
