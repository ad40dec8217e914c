"""What a training took is read as it was written, and nothing else is taken for it."""

import pytest

from pipeline.errors import ArtefactError
from pipeline.heads import training_time


def test_a_cost_is_read_as_it_was_written(tmp_path):
    for cost in (training_time.Cost("train", 0.4), training_time.Cost("finetune", 31.5, "dense")):
        training_time.write(tmp_path / "one.json", cost)
        assert training_time.read(tmp_path / "one.json") == cost


def test_what_else_a_report_tells_is_no_part_of_the_cost(tmp_path):
    training_time.write(tmp_path / "one.json", training_time.Cost("join", 0.0, "dense"), epochs=0)
    assert '"epochs": 0' in (tmp_path / "one.json").read_text()
    assert training_time.read(tmp_path / "one.json") == training_time.Cost("join", 0.0, "dense")


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": 1}', '{"stage": "train", "seconds": "1", "head": null}'])
def test_what_is_no_report_is_refused_by_name(tmp_path, text):
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(ArtefactError, match=r"one\.json: expected .*; run `hs.train` or `hs.finetune` with a report"):
        training_time.read(path)
