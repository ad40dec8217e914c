"""TensorFlow says what matters, and nothing else."""

import logging

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
