"""TensorFlow says what matters, and nothing else."""

import logging
import subprocess
import sys

from pipeline.backbones import quiet_imports


def test_advice_on_many_graphs_is_kept_from_the_user_and_nothing_else() -> None:
    log = quiet_imports.tensorflow().get_logger()
    filters = list(log.filters)
    quiet_imports.tensorflow()
    assert log.filters == filters
    advice, news = (
        logging.LogRecord("tensorflow", logging.WARNING, "", 0, text, None, None)
        for text in ("5 out of the last 5 calls to f triggered tf.function retracing.", "the disk is full")
    )
    assert (bool(log.filter(advice)), bool(log.filter(news))) == (False, True)


def test_openvino_is_loaded_without_its_telemetry_and_what_hid_that_is_put_back() -> None:
    program = (
        "import sys; from pipeline.backbones import quiet_imports; quiet_imports.openvino().convert_model\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
