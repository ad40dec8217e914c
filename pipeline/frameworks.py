"""Load TensorFlow, which greets on stderr past its own log level, without its greetings."""

import logging
import os
import sys
import tempfile
from typing import Any


def tensorflow() -> Any:
    """Import TensorFlow and return the module; what it prints meanwhile is shown only if the import fails.

    Import it here first, wherever Keras or TensorFlow is about to be used: once loaded, both are quiet.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    logging.getLogger("tensorflow").addFilter(_is_news)
    return tensorflow


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is more than advice on TensorFlow's use: many networks in a search are as many graphs."""
    return "tf.function retracing" not in record.getMessage()


def openvino() -> Any:
    """Import OpenVINO and return the module.

    Its telemetry, which would report each import over the network and write into the home directory, is left out:
    OpenVINO does without where that package cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import fail
    import openvino

    return openvino
