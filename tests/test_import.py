"""Importing the library changes nothing in the process that imports it."""

import subprocess
import sys

PROGRAM = """
import os, pkgutil, signal, sys, warnings

def state():
    umask = os.umask(0)
    os.umask(umask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return list(warnings.filters), dict(os.environ), handlers, umask

import numpy, PIL.Image, h5py, joblib, sklearn  # what these change is theirs
before = state()
import importlib, pipeline
names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
for name in names:
    if not name.endswith(("runtimes", "__main__")):
        importlib.import_module(name)
for old, new in zip(before, state()):
    assert old == new, (old, new)
heavy = {"tensorflow", "keras", "openvino", "matplotlib", "distributed"} & set(sys.modules)
print(len(names), sorted(heavy))
"""


def test_importing_every_module_changes_no_filter_variable_signal_or_umask() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, _, heavy = ran.stdout.strip().partition(" ")
    assert int(count) > 100
    assert heavy == "[]"
