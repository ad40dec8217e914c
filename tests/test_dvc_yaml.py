"""dvc.yaml is the table of contents: what it declares must be what the stages import."""

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml

from tests import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
GRAPH = grimp.build_graph("pipeline", "stages")


def described(stage: str) -> dict[str, object]:
    return STAGES[stage].get("do", STAGES[stage])


def command_of(stage: str) -> str:
    """`evaluate-model` runs the command `evaluate` for a model."""
    return stage.partition("-")[0]


def imported(stage: str) -> set[Path]:
    """The files of the code that the module of a command imports, at once or later."""
    module = f"stages.{command_of(stage)}"
    paths = {ROOT.joinpath(*name.split(".")) for name in GRAPH.find_upstream_modules(module) | {module}}
    return {path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths}


def declared(stage: str) -> list[Path]:
    return [ROOT / dep for dep in described(stage)["deps"] if dep.startswith(("pipeline/", "stages/"))]


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_lies_in_the_folders_it_declares(stage: str) -> None:
    folders = declared(stage)
    assert [file for file in imported(stage) if not any(file.is_relative_to(folder) for folder in folders)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_no_folder_is_declared_in_vain(stage: str) -> None:
    files = imported(stage)
    assert [folder for folder in declared(stage) if not any(file.is_relative_to(folder) for file in files)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_package_is_declared_as_a_whole(stage: str) -> None:
    assert all(len(folder.relative_to(ROOT).parts) == 2 for folder in declared(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_command_of_its_name(stage: str) -> None:
    assert described(stage)["cmd"].startswith(f"headstart {command_of(stage)} ")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_only_what_it_declares_and_writes_only_its_outputs(stage: str) -> None:
    """Every data path in the command is a dependency or an output, or lies in one.

    Photos are one of `prepare` alone: later stages depend on the manifest, which has the SHA-256 of each, as DVC would
    look at every file again for every stage.
    """
    kinds = ("deps", "outs", "metrics", "plots")
    listed = [item for kind in kinds for item in described(stage).get(kind, [])]
    named = [next(iter(item)) if isinstance(item, dict) else item for item in listed]
    command = described(stage)["cmd"]
    assert ("${images}" in named) == (stage == "prepare")
    assert stage == "prepare" or "${images}" not in command or "data/prepared/manifest.csv" in named
    for path in re.findall(r"data/(?:\$\{[^}]+\}|[^\s'])+", command):
        assert any(path == name or name.startswith(f"{path}/") for name in named), path


@pytest.mark.parametrize("stage", STAGES)
def test_a_shell_finds_a_name_in_single_quotes_and_a_section_as_dvc_quotes_it(stage: str) -> None:
    """`images: ph$(touch x)` is a folder of that name."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    sections = {f"${{{name}}}" for name, value in params.items() if isinstance(value, dict)} | {"${item}"}
    command = described(stage)["cmd"]
    assert set(re.findall(r"\$\{[^}]+\}", re.sub(r"'[^']*'", "", command))) <= sections
    assert '"' not in command


def test_every_option_of_params_yaml_is_one_of_its_stage() -> None:
    import importlib

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    sections = {stage: [params[stage]] for stage in ("prepare", "probe", "extract", "audit", "finetune", "evaluate")}
    sections |= {stage: [params[stage]] for stage in ("export", "report")}
    for stage in ("probe", "extract"):
        sections[stage].append(params["base"])
    sections["train"] = list(params["train"].values())
    for stage, maps in sections.items():
        command = getattr(importlib.import_module(f"stages.{stage}"), stage)
        known = {name for option in command.params for name in option.opts}
        for options in maps:
            assert {f"--{key}" for key in options} <= known


def test_dvc_reads_it() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    stages = {"digits", "prepare", "probe", "extract", "train@logistic", "train@dense", "finetune"}
    assert stages | {"evaluate@logistic"} <= set(found.stdout.split())
