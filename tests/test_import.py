"""Importing the library changes nothing in the process that imports it, and neither does opening an engine."""

import subprocess
import sys

from tests import ROOT

STATE = """
import locale, logging, os, pkgutil, signal, sys, warnings

def state():
    umask = os.umask(0)
    os.umask(umask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    loggers = {name: (list(log.filters), log.level) for name in LOGGERS for log in [logging.getLogger(name)]}
    stderr = os.fstat(2).st_dev, os.fstat(2).st_ino
    return list(warnings.filters), dict(os.environ), handlers, umask, loggers, stderr, os.getcwd(), locale.setlocale(0)

LOGGERS = ["tensorflow", "absl", "keras", "openvino", "distributed", "pipeline", None]
"""

IMPORTS = (
    STATE
    + """
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
)

OPENS = (
    STATE
    + """
from pipeline.backbones import cutting, table, weights
from pipeline.backbones.engines.engine import open_engine, precisions
from tests.fakes import register_tiny
import tensorflow, keras, openvino  # what these change is theirs

register_tiny()
backbone = table.find("tiny")
def build():
    found = weights.find_weights(backbone, "none", size=32, alpha=1.0, seed=0)
    base = weights.load(backbone, size=32, alpha=1.0, weights=found)
    return cutting.trunk(backbone, base, cut="block-1", pooling="avg")

before = state()
for name in ("tensorflow", "openvino"):
    precisions(name)
    open_engine(name, build, batch_size=1, precision="float32", kept=None)
for old, new in zip(before, state()):
    assert old == new, (old, new)
"""
)


def test_importing_every_module_changes_no_filter_variable_signal_or_umask() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, _, heavy = ran.stdout.strip().partition(" ")
    assert int(count) > 100
    assert heavy == "[]"


def test_opening_an_engine_changes_no_filter_variable_signal_umask_logger_stream_folder_or_locale() -> None:
    ran = subprocess.run([sys.executable, "-c", OPENS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
