"""Each command imports no more than it needs: with the packaged base neither Keras nor TensorFlow, before epochs."""

import subprocess
import sys
from pathlib import Path

from tests import ROOT, fakes

# Each command runs in a process of its own, forked off one that has imported what neither it nor a later one must not:
# so the strictest come first. Photos are decoded in that process, and pictures have no size.
EACH_ALONE = """
import ast, importlib, os, sys
from pipeline.photos import decode_pool
from stages.__main__ import main

def each(function, items, *, workers, progress):
    return [function(item) for item in items]

decode_pool.each = each
for line in sys.stdin:
    arguments, unwanted, imported = ast.literal_eval(line)
    for name in imported:
        importlib.import_module(name)
    if agg := sys.modules.get("matplotlib.backends.backend_agg"):
        agg.FigureCanvasAgg.print_png = lambda canvas, path, **_: open(path, "wb").close()
    child = os.fork()
    if not child:
        try:
            main(arguments)
            code = 0
        except SystemExit as end:
            code = end.code
        found = sorted(set(unwanted) & set(sys.modules))
        print(arguments, "ended with", code, "and loaded", found, file=sys.stderr)
        os._exit(bool(code or found))
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""
NETWORKS = ("tensorflow", "keras")
SLOW = ("sklearn", "pandas", "requests", "dask")
CACHE = ("--cache", "cache")
COMMON = ("numpy", "joblib.externals.loky", "h5py", "matplotlib.figure", "matplotlib.backends.backend_agg")
IMPORTED = (*COMMON, "scipy.optimize", "scipy.special", "openvino")
LOADS_NONE_OF = (
    ("backbones", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
    ("backbones efficientnet_lite0 --cut 100", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
    ("digits digits", (*NETWORKS, *SLOW, "openvino", "scipy", "h5py", "matplotlib")),
    ("prepare photos m.csv", (*NETWORKS, *SLOW, "openvino", "scipy", "h5py")),
    ("extract photos m.csv f.h5 --size 64", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("cache list", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
    ("train m.csv f.h5 heads/logistic", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("predict heads/logistic photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("finetune photos m.csv f.h5 heads/logistic model", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("predict model photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("predict imagenet photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("train m.csv f.h5 heads/dense --head dense --epochs 3", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("finetune photos m.csv f.h5 heads/dense joined", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("predict heads/dense photos/a", (*NETWORKS, *SLOW, "matplotlib", "openvino.tools.ovc")),
    ("evaluate photos m.csv f.h5 heads/logistic e/head", (*NETWORKS, *SLOW, "openvino")),
    ("evaluate photos m.csv f.h5 heads/dense e/dense", (*NETWORKS, *SLOW, "openvino")),
    ("compare e comparison", (*NETWORKS, *SLOW, "scipy.stats", "openvino")),
    ("audit photos m.csv f.h5 audit", (*NETWORKS, *SLOW, "scipy.stats", "openvino")),
    ("train m.csv f.h5 heads/searched --head dense --search --epochs 2 --trials 3", (*NETWORKS, "dask", "openvino")),
    ("probe photos m.csv cut.json --size 64", (*NETWORKS, *SLOW, "scipy.stats")),
    ("evaluate photos m.csv f.h5 model e/model", (*NETWORKS, *SLOW)),
    ("export model out --format onnx,openvino --images photos --manifest m.csv", (*NETWORKS, *SLOW, "tf2onnx")),
    ("growth m.csv f.h5 growth --parts 3 --seeds 2", NETWORKS),
    ("report photos m.csv f.h5 e r.html --heat-maps --trained heads", NETWORKS),
)
WITHOUT_CACHE = ("digits", "prepare", "train", "growth", "audit", "compare", "backbones")


def test_no_command_loads_what_it_does_not_need(tmp_path: Path) -> None:
    fakes.write_classes(tmp_path / "photos", {"a": 14, "b": 14})
    lines = []
    for place, (command, unwanted) in enumerate(LOADS_NONE_OF):
        arguments = command.split()
        cache = () if arguments[0] in WITHOUT_CACHE else CACHE
        to_come = tuple(name for _, names in LOADS_NONE_OF[place:] for name in names)
        imported = [name for name in IMPORTED if not f"{name}.".startswith(tuple(f"{one}." for one in to_come))]
        lines.append(f"{([*arguments, *cache], unwanted, imported)!r}\n")
    program = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){EACH_ALONE}"]
    run = subprocess.run(program, input="".join(lines), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("ended with 0 and loaded []") == len(LOADS_NONE_OF)
