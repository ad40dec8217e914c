"""`headstart compare` prints the verdict, and how often the test split was looked at, as far as Git knows."""

import hashlib
import json
import os
import subprocess

import pytest
import yaml
from click.testing import CliRunner

from stages import history
from stages.compare import compare
from stages.results import results
from tests.evaluation.test_compare import evaluated


@pytest.fixture
def folders(tmp_path):
    return [evaluated(tmp_path / "evaluation/dense", range(4)), evaluated(tmp_path / "evaluation/knn", range(50))]


def git(root, *arguments):
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(
        ["git", "-c", "commit.gpgsign=false", *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        env=kept | identity,
    )


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def lock(root, manifest, *results):
    """Write a dvc.lock of evaluations that read one manifest and wrote these metrics."""
    stages = {
        f"evaluate@{number}": {
            "cmd": "evaluate",
            "deps": [{"path": "data/prepared/manifest.csv", "hash": "md5", "md5": manifest}, {"path": "pipeline"}],
            "outs": [{"path": f"data/evaluation/{number}/metrics.json", "hash": "md5", "md5": result}],
        }
        for number, result in enumerate(results)
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def committed(root, *arguments):
    lock(root, *arguments)
    git(root, "add", "dvc.lock")
    git(root, "commit", "--message", "run")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "[1]",
        "a: [1]",
        "b: {deps: {path: x}}",
        "c: {deps: [1, {path: x}], outs: [{md5: y}]}",
        "d: {deps: [{path: [1], md5: 2}]}",
        "\udcff",
    ],
)
def test_a_lock_that_is_none_counts_as_no_result(folders, tmp_path, text):
    written = f"stages:\n  {text} # metrics.json manifest.csv\n"
    (tmp_path / "dvc.lock").write_bytes(written.encode("utf-8", "surrogateescape"))
    assert history.results(folders, tmp_path)[0] == 2


def test_results_of_every_commit_branch_and_experiment_count_once(folders, tmp_path):
    dense, knn = (md5(folder / "metrics.json") for folder in folders)
    git(tmp_path, "init")
    committed(tmp_path, "split", dense, "first")
    committed(tmp_path, "another split", "elsewhere")
    committed(tmp_path, "split", dense, "second")
    git(tmp_path, "checkout", "-b", "branch")
    committed(tmp_path, "split", "second", "third")
    git(tmp_path, "update-ref", "refs/exps/one", "HEAD")
    git(tmp_path, "checkout", "-")
    git(tmp_path, "branch", "-D", "branch")
    lock(tmp_path, "split", knn, "fourth")
    # dense, knn, first, second, third and fourth
    assert history.results(folders, tmp_path) == (6, True)


def test_no_program_that_a_repository_names_is_run_and_changes_are_seen_all_the_same(tmp_path):
    (tmp_path / "pipeline").mkdir()
    code, mark = tmp_path / "pipeline" / "a b.py", tmp_path / "ran"
    code.write_text("one")
    git(tmp_path, "init")
    (tmp_path / ".gitattributes").write_text("* filter=evil diff=evil")
    git(tmp_path, "add", ".")
    committed(tmp_path, "split", "metrics", "first")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    named = ("core.fsmonitor", "core.pager", "diff.external", "diff.evil.textconv", "filter.evil.clean", "gpg.program")
    for key in named:
        git(tmp_path, "config", key, str(program))
    for text in ("one", "two", "one\r\n"):
        code.write_bytes(text.encode())
        assert history.is_changed(tmp_path, ["pipeline", "stages"]) == (text != "one")
    code.unlink()
    assert history.is_changed(tmp_path, ["pipeline", "stages"])
    history._locks(tmp_path)
    assert not mark.exists()
    subprocess.run(["git", "status"], cwd=tmp_path, check=True, capture_output=True)
    assert mark.exists()


def test_without_git_those_given_and_the_present_lock_count(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert history.results(folders, tmp_path) == (2, False)
    lock(tmp_path, "split", md5(folders[0] / "metrics.json"), "other")
    assert history.results(folders, tmp_path) == (3, False)
    monkeypatch.setenv("PATH", "")
    assert history.results(folders, tmp_path) == (3, False)


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace(
            "  evaluate@0:", "  ? evaluate@0\n  :"
        ),  # as YAML has names of more than 128 characters
        lambda text: text.replace("\n", "\r\n"),
        lambda text: yaml.safe_dump(yaml.safe_load(text), indent=4),
        lambda text: json.dumps(yaml.safe_load(text)),
    ],
)
def test_a_lock_may_be_laid_out_otherwise(folders, tmp_path, monkeypatch, written):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    metrics = [md5(folder / "metrics.json") for folder in folders]
    lock(tmp_path, "manifest", "0" * 32, *metrics)
    text = (tmp_path / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_bytes(written(text).encode())
    assert history.results(folders, tmp_path) == (3, False)


def test_a_lock_that_is_no_yaml_counts_for_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "dvc.lock").write_text("<<<<<<< ours\n\t: [metrics.json, manifest.csv")
    assert history.results(folders, tmp_path) == (2, False)


def test_the_command_prints_ranking_pairs_verdict_and_count(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    result = CliRunner().invoke(compare, ["evaluation", "result"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "200 test images; in brackets 95 % intervals; p is of McNemar's test, mid-p"
    assert lines[3].startswith("   1  dense  0.980 [0.9")
    assert lines[6].startswith("dense over knn: 23.0 [")
    assert lines[6].endswith("p < 0.001, dense is better")
    assert lines[8].startswith("Verdict: dense is better than knn: 23.0 [")
    assert lines[9].startswith("At least 2 results on this test split so far; no Git history")
    assert lines[10] == "-> result"


def test_of_several_pairs_it_is_said_that_some_differ_by_chance(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluated(tmp_path / "evaluation/ridge", range(6))
    result = CliRunner().invoke(compare, ["evaluation", "result"])
    assert result.output.splitlines()[1].startswith("Of 3 pairs some differ by chance: their p-values and intervals")


def test_a_foreseen_error_is_one_line_and_status_1(folders):
    result = CliRunner().invoke(compare, [str(folders[0]), "result"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: expected two evaluations or more")
    assert result.output.count("\n") == 1


def test_results_of_one_name_in_two_folders_are_told_apart(tmp_path):
    places = [evaluated(tmp_path / side / "logistic", range(4)) for side in ("before", "after")]
    shown = (
        CliRunner().invoke(results, [str(place) for place in (*places, evaluated(tmp_path / "knn", range(4)))]).output
    )
    assert all(any(line.startswith(str(place)) for line in shown.splitlines()) for place in places)
    assert any(line.startswith("knn ") for line in shown.splitlines())
