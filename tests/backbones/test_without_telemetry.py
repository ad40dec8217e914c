"""A runtime is imported without what would report it over the network."""

import subprocess
import sys


def test_openvino_is_loaded_without_its_telemetry_and_what_hid_that_is_put_back() -> None:
    program = (
        "import sys; from pipeline.backbones import without_telemetry; without_telemetry.openvino().convert_model\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_nncf_is_loaded_without_its_telemetry_and_leaves_the_process_as_it_was() -> None:
    program = (
        "import logging, os, sys; before = dict(os.environ), logging.getLoggerClass()\n"
        "from pipeline.backbones import without_telemetry; nncf = without_telemetry.quantiser()\n"
        "from nncf.telemetry import telemetry; print(type(telemetry).__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])\n"
        "print((dict(os.environ), logging.getLoggerClass()) == before)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "MagicMock\n[]\nTrue\n"
