"""Numbers and predictions are read as they were written; what is damaged is refused by its name."""

import numpy as np
import pytest

from pipeline.errors import ArtefactError
from pipeline.evaluation import predictions_file

FOUND = predictions_file.Predictions(
    paths=["a,b.png", 'c"d.png'],
    digests=["00" * 32, "11" * 32],
    labels=["cat", "dog"],
    predicted=["cat", "dog"],
    classes=["cat", "dog"],
    probabilities=np.array([[0.75, 0.25], [0.5, 0.5]]),
)


def test_predictions_are_read_as_they_were_written(tmp_path):
    predictions_file.write_predictions(tmp_path, FOUND)
    found = predictions_file.read_predictions(tmp_path)
    assert (found.paths, found.digests, found.labels, found.classes) == (
        FOUND.paths,
        FOUND.digests,
        FOUND.labels,
        FOUND.classes,
    )
    np.testing.assert_array_equal(found.probabilities, FOUND.probabilities)
    assert found.predicted == FOUND.predicted
    assert len(found) == 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("path,digest,label", "path,label,digest", "columns path,label,digest"),
        ("11" * 32, "00" * 32, "an image twice"),
        ("0.25\n", "0.25,1\n", "a row of another length"),
        ("dog,dog,1", "cow,dog,1", "no probabilities of cow"),
        ("0.75,0.25", "0.75,none", "could not convert"),
        ("0.75,0.25", "0.75,nan", "NaN or infinity"),
        ("0.75,0.25", "0.75,0.75", "probabilities that do not add up to 1"),
        ("0.75,0.25", "1.75,-0.75", "probabilities that do not add up to 1"),
        ('"a,b.png"', "../b.png", "the path '../b.png', which is not below the image root"),
        ('"a,b.png"', "/b.png", "the path '/b.png', which is not below the image root"),
        ("p_cat,p_dog", "p_cat,p_cat", "a class twice"),
    ],
)
def test_damaged_predictions_are_refused_with_what_is_wrong(tmp_path, old, new, told):
    predictions_file.write_predictions(tmp_path, FOUND)
    path = tmp_path / "predictions.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ArtefactError, match=rf"predictions\.csv: expected predictions written by.*{told}"):
        predictions_file.read_predictions(tmp_path)


@pytest.mark.parametrize("text", ["", "path,digest,label,predicted,correct,confidence,p_a\n"])
def test_predictions_without_an_image_are_refused(tmp_path, text):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(ArtefactError, match=r"predictions\.csv: expected predictions"):
        predictions_file.read_predictions(tmp_path)


def test_metrics_are_read_as_they_were_written_and_only_from_where_they_are(tmp_path):
    numbers = {"images": 3, **dict.fromkeys(predictions_file.RANKED, 0.5)}
    predictions_file.write_metrics(tmp_path / "out", numbers)
    assert predictions_file.read_metrics(tmp_path / "out") == numbers
    with pytest.raises(ArtefactError, match=r"nowhere/all_metrics\.json: expected metrics, received no such file"):
        predictions_file.read_metrics(tmp_path / "nowhere")
