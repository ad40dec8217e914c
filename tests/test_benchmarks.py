"""Every program of benchmarks/ still runs: at its smallest size, or where that takes long, as far as its options."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.features import features_file
from pipeline.features.spec import canonical
from pipeline.photos import manifest, prepare
from pipeline.photos.settings import PrepareSettings
from tests import ROOT
from tests.fakes import write_classes

# What each is called with, and what it prints. Processes that load TensorFlow, a server or Dask make the rest slow.
SMALL = {
    "calibration": ("--sets 1 --resamples 20", r"(?m)^   200  0.9 .*\d\.\d+"),
    "coverage": (
        "--sets 2 --resamples 20 --setting 0 --population 5000 --every 300 --growth 0",
        r"(?m)^Wilson, modified +0\.9",
    ),
    "cut_choice": ("--simulate 1", r"\d"),
    "decoding": (
        "--images {photos} --sizes 16 --rounds 1",
        r"^40 photos.*\n16 px: pillow [\d,]+ a second, turbo .* 40 the same by all instructions",
    ),
    "dense_heads": (
        "--rows 40 --columns 6 --hidden 4 --epochs 2 --rounds 1 --ways headstart",
        r"(?m)^headstart .* 1.00 .*\d\.\d+",
    ),
    "few_photos": (
        "{manifest} {features} {folder}/few.png --counts 3 --seeds 1 --heads ridge",
        r"(?m)^ridge .*\d\.\d+",
    ),
    "heads": ("--rows 40 --columns 6 --strengths 2 --folds 2 --rounds 1", r"\d"),
    "larger_than_memory": (
        "{folder} --gigabytes 0.0002 --columns 16 --heads centroid --skip-large",
        r"difference of a",
    ),
    "report": ("--images 100", r"100 images of photo: .*\n.* MB"),
    "scale": ("--rows 50 --width 8", r"50 computed"),
}
# Of what a benchmark lists, the first: each is another table of the same kind.
FIRST = {
    "calibration": ("SETTINGS",),
    "coverage": ("EXACT_SIZES", "AREAS", "PAIR_SIZES"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Photos of two classes, with a manifest and features by which they are mostly told apart."""
    folder = tmp_path_factory.mktemp("benchmarks")
    found = {name: folder / name for name in ("folder", "photos", "manifest", "features")}
    found["folder"].mkdir()
    write_classes(found["photos"], {"cat": 20, "dog": 20})
    prepare.prepare(
        found["photos"], found["manifest"], PrepareSettings(stratify=True), progress=lambda done, total: None
    )
    table = manifest.read(found["manifest"])
    order = sorted(range(len(table)), key=lambda place: table.digests[place].tobytes())
    block = np.random.default_rng(0).normal(size=(len(table), 8)).astype(np.float32)
    block[:, 0] += [4 * (table.labels[place] == "dog") for place in order]
    features_file.write(
        found["features"],
        digests=table.digests[order],
        spec=canonical({"cut": "top"}),
        row_shape=(8,),
        dtype="float32",
        blocks=[block],
    )
    return found


@pytest.fixture
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module(request.param)
    for name in programs():
        sys.modules.pop(name, None)


def programs() -> list[str]:
    return sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize(("program", "name"), [(name, name) for name in SMALL], indirect=["program"], ids=SMALL)
def test_a_benchmark_runs_at_its_smallest_size(
    program: Any,
    name: str,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, printed = SMALL[name]
    for listed in FIRST.get(name, ()):
        monkeypatch.setattr(program, listed, getattr(program, listed)[:1])
    monkeypatch.setattr(sys, "argv", [name, *(word.format(**places) for word in words.split())])
    program.main()
    assert re.search(printed, capfd.readouterr().out)


REST = [name for name in programs() if name not in SMALL]


@pytest.mark.parametrize(("program", "name"), [(name, name) for name in REST], indirect=["program"], ids=REST)
def test_a_slow_benchmark_knows_its_options(
    program: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    assert "--" in capsys.readouterr().out.partition("options:")[2]


@pytest.mark.parametrize("program", ["simulation"], indirect=True)
def test_twice_the_workers_halve_the_computing(program: Any) -> None:
    costs = program.Costs(plan=0, plan_row=0, assemble_row=0, task=0, memory=0, memory_row=0, start=0)
    seconds = [program.simulated(10**6, workers, 100.0, costs, bytes_read=0.1)["compute"] for workers in (1, 2)]
    assert seconds[0] == pytest.approx(10**4)
    assert seconds[1] == pytest.approx(5 * 10**3, rel=0.01)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
def test_a_way_that_cannot_start_is_left_out_and_a_child_that_dies_later_ends_the_benchmark(
    places: dict[str, Path],
) -> None:
    (places["folder"] / "timm.py").write_text(
        "import os, pathlib\nseen = pathlib.Path(__file__).with_name('seen')\n"
        "if seen.exists(): os._exit(3)\nseen.touch()\nraise RuntimeError('no compiler\\nand more')\n"
    )
    ways = ["engine alone, bfloat16", "timm", "timm, compiled", "decoding alone"]
    command = [
        sys.executable,
        ROOT / "benchmarks" / "extraction.py",
        "--images",
        places["photos"],
        "--rounds",
        "9999999",
    ]
    with subprocess.Popen(
        [*map(str, command), "--weights", "nowhere.h5", "--ways", *ways],
        cwd=places["folder"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(places["folder"]), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        left_out = [process.stdout.readline().removeprefix("left out, ") for _ in ways[:-1]]
        assert left_out[0].startswith("engine alone, bfloat16: `weights`: expected")
        assert left_out[1:] == ["timm: no compiler\n", "timm, compiled: its process died\n"]
        assert process.stdout.readline() == "measured, in turns: decoding alone\n"
        while process.poll() is None:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                with contextlib.suppress(OSError):
                    if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                        os.kill(int(child), signal.SIGKILL)
            time.sleep(0.1)
        assert process.stderr
        assert (process.returncode, process.stderr.read().splitlines()[-1]) == (1, "decoding alone: its process died")
