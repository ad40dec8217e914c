"""Each command imports no more than it needs: with the packaged base neither Keras nor TensorFlow, before epochs."""

import subprocess
import sys
from pathlib import Path

from tests import ROOT, fakes

# Each command runs in a process of its own, forked off one that has imported what all have in common.
EACH_ALONE = """
import ast, os, sys
from stages.__main__ import main

for line in sys.stdin:
    arguments, unwanted = ast.literal_eval(line)
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
LOADS_NONE_OF = (
    ("prepare photos m.csv", (*NETWORKS, *SLOW, "openvino", "scipy", "h5py")),
    ("digits digits", (*NETWORKS, *SLOW, "openvino", "scipy", "h5py", "matplotlib")),
    ("probe photos m.csv cut.json --size 64", (*NETWORKS, *SLOW, "scipy.stats")),
    ("extract photos m.csv f.h5 --size 64", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("train m.csv f.h5 heads/logistic", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("train m.csv f.h5 heads/dense --head dense --epochs 3", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("train m.csv f.h5 heads/searched --head dense --search --epochs 2 --trials 3", (*NETWORKS, "dask", "openvino")),
    ("growth m.csv f.h5 growth --parts 3 --seeds 2", NETWORKS),
    ("finetune photos m.csv f.h5 heads/logistic model", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("audit photos m.csv f.h5 audit", (*NETWORKS, *SLOW, "scipy.stats", "openvino")),
    ("evaluate photos m.csv f.h5 heads/logistic e/head", (*NETWORKS, *SLOW, "openvino")),
    ("evaluate photos m.csv f.h5 heads/dense e/dense", (*NETWORKS, *SLOW, "openvino")),
    ("compare e comparison", (*NETWORKS, *SLOW, "scipy.stats", "openvino")),
    ("finetune photos m.csv f.h5 heads/dense joined", (*NETWORKS, *SLOW, "openvino", "matplotlib")),
    ("predict heads/dense photos/a", (*NETWORKS, *SLOW, "matplotlib", "openvino.tools.ovc")),
    ("evaluate photos m.csv f.h5 model e/model", (*NETWORKS, *SLOW)),
    ("export model out --format onnx,openvino --images photos --manifest m.csv", (*NETWORKS, *SLOW, "tf2onnx")),
    ("predict heads/logistic photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("predict model photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("predict imagenet photos/a", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino.tools.ovc")),
    ("report photos m.csv f.h5 e r.html --heat-maps --trained heads", NETWORKS),
    ("backbones", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
    ("backbones efficientnet_lite0 --cut 100", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
    ("cache list", (*NETWORKS, *SLOW, "scipy", "matplotlib", "openvino")),
)
WITHOUT_CACHE = ("digits", "prepare", "train", "growth", "audit", "compare", "backbones")


def test_no_command_loads_what_it_does_not_need(tmp_path: Path) -> None:
    fakes.write_classes(tmp_path / "photos", {"a": 14, "b": 14})
    lines = []
    for command, unwanted in LOADS_NONE_OF:
        arguments = command.split()
        cache = () if arguments[0] in WITHOUT_CACHE else CACHE
        lines.append(f"{([*arguments, *cache], unwanted)!r}\n")
    program = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){EACH_ALONE}"]
    run = subprocess.run(program, input="".join(lines), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("ended with 0 and loaded []") == len(LOADS_NONE_OF)
