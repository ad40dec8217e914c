"""``headstart cache``: list, verify, prune, explain."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.features import features_file, spec
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.resolve import plan
from pipeline.features.settings import FeatureSettings
from pipeline.photos import manifest
from pipeline.photos.augmentation import view_key
from pipeline.photos.manifest import Manifest
from pipeline.photos.settings import Policy
from stages.cache import cache as command
from tests import ROOT
from tests.features.cache.test_row_cache import digests_of, rows_of

OPTIONS = {"--backbone": "mobilenet_v2", "--weights": "none", "--size": "32"}


def run(root: Path, name: str, *arguments: object) -> Result:
    return CliRunner().invoke(command, [name, "--cache", str(root), *map(str, arguments)])


def shown(result: Result) -> str:
    """The output without the sizes of small files."""
    return re.sub(r"[\d.]+ kB", "? kB", result.output)


def spec_of(**changes: object) -> dict[str, object]:
    return plan(FeatureSettings(**{"backbone": "mobilenet_v2", "weights": "none", "size": 32} | changes)).spec


def filled(root: Path, count: int = 20, **changes: object) -> RowCache:
    described = spec_of(**changes)
    cache = RowCache(root, spec=spec.canonical(described), dtype="float16", view="0")
    cache.add(digests_of(count), rows_of(digests_of(count)))
    return cache


def options(**changes: object) -> list[str]:
    chosen = OPTIONS | {f"--{name}": str(value) for name, value in changes.items()}
    return [word for option in chosen.items() for word in option]


def write_manifest(path: Path, count: int) -> Path:
    digests = digests_of(count)
    manifest.write(
        Manifest(
            paths=[f"{number}.png" for number in range(count)],
            digests=digests,
            labels=["a"] * count,
            splits=["train"] * count,
            widths=np.full(count, 40, np.int32),
            heights=np.full(count, 30, np.int32),
            formats=["PNG"] * count,
        ),
        path,
    )
    return path


def write_features(path: Path, cache: RowCache) -> Path:
    digests = digests_of(20)
    blocks = cache.blocks(cache.index(), digests)
    features_file.write(path, spec=cache.spec, digests=digests, row_shape=(5,), dtype="float16", blocks=blocks)
    return path


def test_list_shows_each_spec_readably_with_damage_and_writers(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, 30, pooling="max")
    (one.folder / "0123.damaged").write_bytes(b"")
    with other.writer(0.0, 1.0):
        result = run(tmp_path, "list")
    assert result.exit_code == 0
    lines = shown(result).splitlines()
    assert " ".join(lines[0].split()) == "spec rows shards disk backbone size resize cut pooling precision dtype"
    rows = {line.split()[0]: line.split() for line in lines[1:] if not line.startswith(" ")}
    assert rows[one.identity[:8]] == (
        f"{one.identity[:8]} 20 1 ? kB mobilenet_v2 32 squash out_relu avg float32 float16".split()
    )
    assert rows[other.identity[:8]][1] == "30"
    assert f"  {one.identity[:8]} damaged: 0123.damaged" in lines
    assert any(re.match(rf"  {other.identity[:8]} at work: process {os.getpid()} on ", line) for line in lines)
    assert lines[-1] == f"50 rows, ? kB in {tmp_path}"


def test_list_of_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    assert shown(run(tmp_path / "none", "list")).splitlines()[-1] == f"0 rows, ? kB in {tmp_path / 'none'}"


def test_list_shows_rows_whose_description_is_lost(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (cache.folder.parent / "spec.json").unlink()
    assert shown(run(tmp_path, "list")).splitlines()[1].split() == [
        cache.identity[:8],
        "20",
        "1",
        "?",
        "kB",
        *"???????",
    ]


def test_verify_of_a_sound_cache_ends_with_status_0(tmp_path: Path) -> None:
    filled(tmp_path)
    result = run(tmp_path, "verify")
    assert (result.exit_code, result.output) == (
        0,
        f"{tmp_path}: every shard, every kept graph and all kept weights are sound\n",
    )


def test_verify_names_the_damaged_shard_sets_it_aside_and_ends_with_status_1(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (path,) = cache.folder.glob("*.rows")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = run(tmp_path, "verify")
    assert (result.exit_code, result.output) == (
        1,
        f"Error: damaged, and set aside as .damaged: {path}\n",
    )
    assert run(tmp_path, "verify").exit_code == 0


def test_prune_alone_removes_no_row(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (cache.folder / "0123.damaged").write_bytes(bytes(1_600_000))
    result = run(tmp_path, "prune")
    assert result.output == (f"rows/{cache.identity}/view-0/0123.damaged: damaged, 1.6 MB\n1.6 MB were freed\n")
    assert not cache.index().missing(digests_of(20)).any()


def test_prune_dry_run_removes_nothing(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    result = run(tmp_path, "prune", "--all", "--dry-run")
    assert shown(result) == f"rows/{cache.identity}: 20 rows, ? kB\n? kB can be freed\n"
    assert not cache.index().missing(digests_of(20)).any()


@pytest.mark.parametrize("kept", ["features", "digits", "json"])
def test_prune_keeps_the_specs_that_are_named_and_no_other(tmp_path: Path, kept: str) -> None:
    root = tmp_path / "cache"
    one, other = filled(root), filled(root, pooling="max")
    name = {
        "features": lambda: write_features(tmp_path / "features.h5", one),
        "digits": lambda: one.identity[:10],
        "json": lambda: one.folder.parent / "spec.json",
    }[kept]()
    result = run(root, "prune", "--keep", name)
    assert shown(result) == f"rows/{other.identity}: 20 rows, ? kB\n? kB were freed\n"
    assert not one.index().missing(digests_of(20)).any()
    assert other.index().missing(digests_of(20)).all()


def test_prune_removes_the_specs_that_are_named(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, pooling="max")
    assert run(tmp_path, "prune", one.identity[:8]).exit_code == 0
    assert [path.name for path in (tmp_path / "rows").iterdir()] == [other.identity]


def test_prune_all_removes_every_row_but_those_of_a_spec_at_work_and_says_so(tmp_path: Path) -> None:
    one, _ = filled(tmp_path), filled(tmp_path, pooling="max")
    with one.writer(0.0, 1.0):
        result = run(tmp_path, "prune", "--all")
    assert f"Warning: {one.identity[:8]} stays: process {os.getpid()} on " in result.output
    assert [path.name for path in (tmp_path / "rows").iterdir()] == [one.identity]


@pytest.mark.parametrize("arguments", [["--all", "--keep", "x"], ["0123", "--all"], ["0123", "--keep", "x"]], ids=str)
def test_prune_takes_one_way_to_say_what_is_not_needed(tmp_path: Path, arguments: list[str]) -> None:
    cache = filled(tmp_path)
    result = run(tmp_path, "prune", *arguments)
    assert result.exit_code == 2
    assert not cache.index().missing(digests_of(20)).any()


def test_prune_of_an_unknown_name_removes_nothing_and_lists_the_known(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    for arguments in (["0123"], ["--keep", "gone.h5"]):
        result = run(tmp_path, "prune", *arguments)
        assert result.exit_code == 1
        assert f"({cache.identity[:8]}), received '{arguments[-1]}'" in result.output
    assert not cache.index().missing(digests_of(20)).any()


def test_explain_says_that_all_is_cached(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    listed = write_manifest(tmp_path / "manifest.csv", 20)
    result = run(tmp_path / "cache", "explain", listed, *options())
    assert result.output == f"20 of 20 rows cached under {cache.identity[:8]}\n"


def test_explain_says_that_images_are_new(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    listed = write_manifest(tmp_path / "manifest.csv", 30)
    result = run(tmp_path / "cache", "explain", listed, *options())
    assert result.output == (
        f"20 of 30 rows cached under {cache.identity[:8]}\n"
        "the settings are known: what is missing are new or edited images, or views under another policy\n"
    )


def test_explain_names_the_setting_that_differs(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    listed = write_manifest(tmp_path / "manifest.csv", 20)
    asked = spec.identity(spec_of(size=64))
    result = run(tmp_path / "cache", "explain", listed, *options(size=64))
    assert result.output == (
        f"0 of 20 rows cached under {asked[:8]}\n"
        f"nearest cached spec {cache.identity[:8]} (20 rows) differs in size: cached 32, asked 64\n"
    )


def test_explain_counts_no_rows_of_other_images(tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "cache", spec=spec.canonical(spec_of()), dtype="float16", view="0")
    cache.add(255 - digests_of(5), rows_of(digests_of(5)))
    listed = write_manifest(tmp_path / "manifest.csv", 20)
    result = run(tmp_path / "cache", "explain", listed, *options(size=64))
    assert result.output.endswith(f"no row of {listed} is cached in {tmp_path / 'cache'}\n")


def test_explain_counts_views_under_their_policy(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    cache = filled(root)
    policy = Policy(flip="horizontal", rotation=0.0, zoom=0.0, shift=0.0, brightness=0.0, contrast=0.0)
    view = RowCache(root, spec=cache.spec, dtype="float16", view=view_key(policy, 1))
    view.add(digests_of(5), rows_of(digests_of(5)))
    listed = write_manifest(tmp_path / "manifest.csv", 20)
    assert run(root, "explain", listed, *options(views=2, flip="horizontal")).output.startswith("25 of 40 rows")
    assert run(root, "explain", listed, *options(views=2, flip="both")).output.startswith("20 of 40 rows")


def test_explain_without_a_manifest_counts_all_rows(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    assert run(tmp_path, "explain", *options()).output == f"20 rows cached under {cache.identity[:8]}\n"
    assert run(tmp_path / "none", "explain", *options()).output.endswith(f"nothing is cached in {tmp_path / 'none'}\n")


def test_explain_takes_the_settings_of_features_and_of_a_description(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    cache = filled(root)
    path = write_features(tmp_path / "features.h5", cache)
    described = tmp_path / "spec.json"
    described.write_text(json.dumps(spec_of(size=64)))
    assert run(root, "explain", "--of", path).output == f"20 rows cached under {cache.identity[:8]}\n"
    assert "size: cached 32, asked 64" in run(root, "explain", "--of", described).output


@pytest.mark.parametrize("arguments", [["list"], ["verify"], ["explain", *options()]], ids=lambda found: found[0])
def test_neither_tensorflow_nor_openvino_is_loaded(tmp_path: Path, arguments: list[str]) -> None:
    program = (
        "import sys; from stages.cache import cache; cache(sys.argv[1:], standalone_mode=False);"
        "sys.exit(bool({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, *arguments, "--cache", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, cwd=ROOT).returncode == 0


def test_the_options_of_explain_are_those_of_extract() -> None:
    from stages.extract import extract

    here = {one.name: one for one in command.commands["explain"].params}
    there = {one.name: one for one in extract.params}
    own = {"manifest", "of", "cache"}
    assert here.keys() - own <= there.keys()
    for name in here.keys() - own:
        assert (here[name].opts, here[name].default) == (there[name].opts, there[name].default)
        assert here[name].type.to_info_dict() == there[name].type.to_info_dict()
