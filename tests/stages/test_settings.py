"""A default is written once: the options of a command are the settings of its dataclass, and nothing else."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
import pytest

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
from stages.console import in_options

# Of each command its settings, and the options that are the command line's own: where results go, and what to do.
COMMANDS: Mapping[str, tuple[type, set[str]]] = {
    "prepare": (PrepareSettings, set()),
    "probe": (ProbeSettings, set()),
    "extract": (ExtractSettings, {"planned", "report"}),
    "train": (TrainSettings, {"report"}),
    "evaluate": (EvaluateSettings, set()),
    "compare": (CompareSettings, set()),
    "predict": (PredictSettings, {"output"}),
    "finetune": (FinetuneSettings, {"report"}),
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
