"""A runtime is imported without what would report it over the network."""

import logging
import subprocess
import sys

import pytest

from pipeline.backbones import without_telemetry


def test_openvino_is_loaded_without_its_telemetry_and_what_hid_that_is_put_back() -> None:
    program = (
        "import sys; from pipeline.backbones import without_telemetry; without_telemetry.openvino().convert_model\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_conversion_that_fails_leaves_the_root_logger_as_it_was() -> None:
    root = logging.getLogger()
    root.addFilter(filtered := logging.Filter())
    try:
        before = root.level, root.filters[:], root.handlers[:]
        with pytest.raises(Exception, match="object"):
            without_telemetry.converter()(object())
        assert (root.level, root.filters, root.handlers) == before
    finally:
        root.removeFilter(filtered)


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
