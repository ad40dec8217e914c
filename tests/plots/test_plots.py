"""Pictures are PNG files, the same for the same numbers, and stay drawable from two classes to hundreds."""

import io
import re
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from pipeline.plots import dataset, evaluation, image_grid, layer_scores, style, training_curves
from pipeline.plots.layer_scores import Contender
from pipeline.plots.style import DPI, SPLIT_COLOURS

LABELS = {
    "two": ["cat", "dog"],
    "many": [f"breed {code:03}" for code in range(120)],
    "odd": ["$a$", "b_{c}$", "tab\there", "\u732b", "x" * 300, ""],
}
HISTORY = [
    {"epoch": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4},
    {"epoch": 2, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.7, "val_accuracy": 0.6},
]


def pixels(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw(path, kind, labels, seed=0):
    """Draw one kind of picture for these labels from the numbers of a seed."""
    rng = np.random.default_rng(seed)
    k = len(labels)
    if kind == "sample_grid":
        pictures = [rng.integers(0, 256, (8 + code % 3, 9, 3), dtype=np.uint8) for code in range(k)]
        image_grid.sample_grid(pictures, labels, path, "samples")
    elif kind == "mistakes_grid":
        shown = [None, *(rng.integers(0, 256, (20, 10, 3), dtype=np.uint8) for _ in range(min(k, 24) - 1))]
        image_grid.mistakes_grid(shown, [f"is: {label}\ntaken for: {label}" for label in labels[:24]], path, "mistakes")
    elif kind == "pairs_grid":
        pictures = [rng.integers(0, 256, (9, 8 + code % 3, 3), dtype=np.uint8) for code in range(min(k, 12))]
        pairs = [(left, None) if code % 4 == 3 else (left, pictures[0]) for code, left in enumerate(pictures)]
        image_grid.pairs_grid(pairs, [f"{label}\n{label}" for label in labels[:12]], path, "pairs")
    elif kind == "class_counts":
        counts = {label: {"train": int(rng.integers(1, 10_000)), "val": 0, "test": 3} for label in labels}
        dataset.class_counts(counts, path)
    elif kind == "confusion_matrix":
        evaluation.confusion_matrix(rng.integers(0, 5, (k, k)) + 20 * np.eye(k, dtype=int), labels, path)
    elif kind == "intervals":
        rows = [(label, value, value / 2, 1.0) for label, value in zip(labels, rng.random(k), strict=True)]
        evaluation.intervals({"precision": rows, "recall": rows}, path, "metrics")
    elif kind == "reliability":
        bins = [evaluation.Bin(9, value, (value + 1) / 2, value / 2, 1.0) for value in np.sort(rng.random(min(k, 10)))]
        sure = [evaluation.Bin(9, 1.0, 1.0, 0.9, 1.0), evaluation.Bin(9, 0.0, 0.0, 0.0, 0.3)]
        sureties = rng.random(50)
        panels = {
            "before $x$\nof one": evaluation.reliable(bins, sureties),
            "after": evaluation.reliable(sure, np.ones(3)),
        }
        evaluation.reliability(panels, path, "bins")
    return path


KINDS = ["sample_grid", "mistakes_grid", "pairs_grid", "class_counts", "confusion_matrix", "intervals", "reliability"]


@pytest.mark.parametrize("kind", KINDS)
def test_same_numbers_give_same_bytes_and_others_another_picture(kind, tmp_path):
    first = draw(tmp_path / "a.png", kind, LABELS["two"])
    again = draw(tmp_path / "b.png", kind, LABELS["two"])
    other = draw(tmp_path / "c.png", kind, LABELS["two"], seed=1)
    assert first.read_bytes() == again.read_bytes()
    assert pixels(first).shape != pixels(other).shape or (pixels(first) != pixels(other)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", ["many", "odd"])
def test_many_and_odd_labels_are_drawn_without_a_warning_on_a_picture_of_bearable_size(kind, labels, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        height, width, _ = pixels(draw(tmp_path / "a.png", kind, LABELS[labels])).shape
    assert 100 < height < 4000
    assert 100 < width < 2500


def test_no_picture_names_the_library_that_drew_it_or_a_date(tmp_path):
    content = draw(tmp_path / "a.png", "class_counts", LABELS["two"]).read_bytes()
    assert not re.search(rb"tEXt|iTXt|zTXt|tIME", content)


def test_a_users_own_style_changes_nothing_and_is_left_alone(tmp_path):
    plain = draw(tmp_path / "a.png", "confusion_matrix", LABELS["two"]).read_bytes()
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 20}):
        styled = draw(tmp_path / "b.png", "confusion_matrix", LABELS["two"]).read_bytes()
        assert mpl.rcParams["font.size"] == 20
    assert styled == plain


def test_the_hue_of_a_sample_is_in_the_picture(tmp_path):
    magenta = np.full((5, 5, 3), (255, 0, 255), np.uint8)
    image_grid.sample_grid([magenta], ["magenta"], tmp_path / "a.png", "one")
    found = (pixels(tmp_path / "a.png") == (255, 0, 255)).all(axis=2).sum()
    assert found == pytest.approx((1.4 * DPI) ** 2, rel=0.03)


@pytest.mark.parametrize(
    "nothing",
    [
        lambda path: image_grid.sample_grid([], [], path, "samples"),
        lambda path: image_grid.mistakes_grid([], [], path, "mistakes"),
        lambda path: image_grid.pairs_grid([], [], path, "pairs"),
        lambda path: training_curves.learning_curves([], path),
    ],
)
def test_where_there_is_nothing_to_draw_there_is_no_file_but_its_folder(nothing, tmp_path):
    old = draw(tmp_path / "plots/a.png", "class_counts", LABELS["two"])
    nothing(old)
    nothing(tmp_path / "other/a.png")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"plots", "other"}


def test_bars_have_the_lengths_of_their_counts(tmp_path):
    dataset.class_counts({"a": {"train": 300, "test": 100}, "b": {"train": 0, "test": 100}}, tmp_path / "a.png")
    drawn = pixels(tmp_path / "a.png")
    lengths = {}
    for split in ("train", "test"):
        colour = tuple(bytes.fromhex(SPLIT_COLOURS[split][1:]))
        rows = (drawn == colour).all(axis=2).sum(axis=1)
        lengths[split] = sorted({int(length) for length in rows if length > 60})
    assert lengths["train"][-1] == pytest.approx(3 * lengths["test"][-1], rel=0.02)


@pytest.mark.parametrize(
    "sizes", [[(8, 8)] * 5, [(500, 375), (375, 500), (10, 4000)], [(1, 1)], [], [(n, 2 * n) for n in range(1, 4000)]]
)
def test_image_sizes_are_drawn_whatever_their_range(sizes, tmp_path):
    widths, heights = np.array(sizes, dtype=np.int32).reshape(-1, 2).T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.image_sizes(widths, heights, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").shape == (744, 720, 3)


def test_learning_curves_need_no_validation(tmp_path):
    training = [{name: row[name] for name in ("epoch", "loss", "accuracy")} for row in HISTORY]
    emptied = [{**row, "val_loss": None, "val_accuracy": float("nan")} for row in HISTORY]
    for name, history in (("both", HISTORY), ("training", training), ("emptied", emptied), ("one", HISTORY[:1])):
        training_curves.learning_curves(history, tmp_path / f"{name}.png")
    assert (tmp_path / "training.png").read_bytes() == (tmp_path / "emptied.png").read_bytes()
    assert (tmp_path / "training.png").read_bytes() != (tmp_path / "both.png").read_bytes()


def test_the_start_of_fine_tuning_and_the_kept_epoch_are_drawn_where_they_are_known(tmp_path):
    rows = [{**row, "phase": phase, "kept": 0} for row, phase in zip(HISTORY, ("head", "fine-tuning"), strict=True)]
    last = training_curves.curves([rows[0], rows[1] | {"kept": 1}], "loss")
    assert (last.start, last.mark) == (1.5, (2, "kept: epoch 2", "validation", 0.7))
    unjudged = [{**row, "kept": 1, "val_loss": None, "val_accuracy": None} for row in HISTORY[:1]]
    assert training_curves.curves(unjudged, "loss").mark == (1, "kept: epoch 1", "training", 0.9)
    plain = training_curves.curves(HISTORY, "loss")
    assert (plain.start, plain.mark) == (None, None)
    for name, history in (("plain", HISTORY), ("started", rows), ("kept", [rows[0], rows[1] | {"kept": 1}])):
        training_curves.learning_curves(history, tmp_path / f"{name}.png")
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == 3


@pytest.mark.parametrize("low", [0.5, 0.9, 0.99, 1.0])
def test_an_axis_of_accuracies_has_no_number_above_1_and_shows_the_line_at_1(low):
    scale = training_curves.curves([{"epoch": 1, "accuracy": low}, {"epoch": 2, "accuracy": 1.0}], "accuracy").scale
    assert max(scale.ticks()) <= 1 < scale.high


def test_a_class_without_test_images_leaves_its_row_of_the_confusion_matrix_blank(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation.confusion_matrix(np.array([[3, 0], [0, 0]]), ["a", "b"], tmp_path / "a.png")
    drawn = pixels(tmp_path / "a.png")
    # Blue is what a cell is filled with; the scale of colours stands at the right.
    blue = drawn[:, : drawn.shape[1] // 2, 2].astype(int) - drawn[:, : drawn.shape[1] // 2, 0] > 40
    rows = np.flatnonzero(blue.sum(axis=1) > 20)
    assert rows.size
    assert rows.max() < drawn.shape[0] / 2


def test_a_failed_drawing_leaves_the_picture_that_stood_there(tmp_path):
    path = draw(tmp_path / "a.png", "sample_grid", LABELS["two"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="zip"):
        image_grid.sample_grid([None], ["one", "two"], path, "unequal")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_long_texts_lose_their_middle():
    assert style.short("train/some/folder/00042.jpg", 15) == "train/s…042.jpg"
    assert style.short("short", 15) == "short"


def test_pictures_open_with_any_reader(tmp_path):
    content = draw(tmp_path / "a.png", "intervals", LABELS["two"]).read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"


def draw_layers(path, *, depths=17, accuracy=0.9, chosen=(3, "avg")):
    rungs = [
        layer_scores.Rung(
            depth,
            f"block-{depths - depth}",
            pooling,
            accuracy,
            0.9 * accuracy,
            (1 + 9 * accuracy) / 10,
            1e6 * depth,
        )
        for pooling in ("avg", "max", "grid2", "grid3")
        for depth in range(1, depths + 1)
    ]
    found = layer_scores.scored_layers(rungs, (f"block-{depths - chosen[0]}", chosen[1]))
    layer_scores.layers(found, path, "a base at 224 px", "$why$, in a sentence " * 12)
    return path


@pytest.mark.parametrize(("depths", "accuracy"), [(17, 0.9), (3, 1.0), (17, 0.0), (4, 0.02), (18, 0.9999)])
def test_layers_are_drawn_whatever_their_accuracy_without_a_warning(depths, accuracy, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pixels(draw_layers(tmp_path / "a.png", depths=depths, accuracy=accuracy))
    assert drawn.shape[0] == 720


def test_the_layer_that_was_chosen_shows(tmp_path):
    one, other = (pixels(draw_layers(tmp_path / f"{name}.png", chosen=(3, name))) for name in ("avg", "grid3"))
    columns = np.flatnonzero((one != other).any(axis=(0, 2)))
    assert columns.min() < one.shape[1] / 3  # the ring is about the third of seventeen cuts, its name at the right
    assert columns.max() > 2 * one.shape[1] / 3


def test_the_layer_that_was_chosen_is_named_with_its_interval():
    rung = layer_scores.Rung(1, "block-1", "avg", 0.9, 0.8765, 0.95, 1e6)
    assert layer_scores.scored_layers([rung], ("block-1", "avg")).words == "chosen: block-1, avg\n0.900 [0.876, 0.950]"
    assert layer_scores.scored_layers([rung], ("top", "avg")).words == ""


def test_images_are_counted_by_tenths_of_confidence():
    assert evaluation.reliable([], np.array([0.05, 0.5, 0.95, 0.99, 1.0])).counts == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]


def test_a_model_that_is_nearly_right_looks_nearly_right(tmp_path):
    """Its only bin lies in the corner of axes from 0 to 1, at the dotted line's end."""
    one, other = (evaluation.reliable([evaluation.Bin(50, 0.99, y, y, y)], np.full(50, 0.99)) for y in (0.99, 0.0))
    evaluation.reliability({"": one}, tmp_path / "one.png", "")
    evaluation.reliability({"": other}, tmp_path / "other.png", "")
    drawn, below = pixels(tmp_path / "one.png"), pixels(tmp_path / "other.png")
    rows, columns = np.nonzero((drawn != below).any(axis=2))
    assert columns.min() > 0.85 * drawn.shape[1]
    assert rows.min() < 0.2 * drawn.shape[0]


def test_a_font_that_is_missing_is_named_once_for_each_script(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(style, "FALLBACK_FONTS", ("A Font",))
    monkeypatch.setattr(style, "_named", set())
    counts = {label: {"train": 1} for label in ("\u732b", "\u72ac", "\u0e41\u0e21\u0e27")}
    for name in ("a.png", "b.png"):
        dataset.class_counts(counts, tmp_path / name)
    cjk, thai = (record.getMessage() for record in caplog.records)
    assert cjk.startswith(
        "pictures show boxes for letters such as \u732b: no font has them; install one of A Font, and"
    )
    assert "such as \u0e41:" in thai


@pytest.mark.parametrize("rates", [[100.0], [3.0, 250.0, 40.0], [0.2, 0.21]])
def test_backbones_are_drawn_whatever_their_speeds_without_a_warning(rates, tmp_path):
    contenders = [Contender("a name " * 9, 0.9 + k / 50, 0.85, 1.0, rate, 1e5 / rate) for k, rate in enumerate(rates)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer_scores.backbones(contenders, tmp_path / "a.png", "title")
    assert pixels(tmp_path / "a.png").shape[1] == 1080


def test_a_title_over_bases_is_drawn_in_full(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda self, text, **_: told.append(text))
    why = "no other is shown to be better, or faster and at most 0.01 less accurate than it, with 95 % confidence"
    title = f"efficientnet_lite0 at 224 is kept: {why}"
    layer_scores.backbones([Contender("a", 0.9, 0.85, 1.0, 3.0, 1.0)], tmp_path / "a.png", title)
    assert told == [title.replace(" 95", "\n95")]


@pytest.mark.parametrize(("loss", "said"), [(0.25, "0.2500"), (0.0, "0.0000"), (4.96e-06, "5.0e-06")])
def test_a_loss_near_zero_is_not_called_zero(loss, said, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, text, **_: told.append(text))
    training_curves.learning_curves([{"epoch": 1.0, "loss": loss, "accuracy": 1.0, "kept": 1}], tmp_path / "a.png")
    assert f"loss: {said} on training at the epoch that is kept" in told


def test_a_pair_of_tiny_pictures_shows_their_pixels():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = 255
    drawn = image_grid._side_by_side(picture, picture)
    assert set(np.unique(drawn)) == {0, 255}
