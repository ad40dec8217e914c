"""The tests mirror the packages."""

import os
import shutil
from pathlib import Path

# BLAS has one thread in each process of the tests, unless told otherwise: two that wait for each other beside those of
# other processes take three times the CPU time. It reads this when NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "there is no Chromium on this machine"
NO_NPM = "npm brings no onnxruntime-web on this machine"
