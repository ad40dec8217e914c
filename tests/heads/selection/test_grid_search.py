"""The simplest candidate within one standard error of the best wins, and nothing is judged on what it was fitted on."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.heads.registry import HEADS
from pipeline.heads.selection import grid_search
from pipeline.heads.selection.cross_validation import Fold, assign
from pipeline.heads.selection.grid_search import Outcome, Search, Trial
from tests.heads.test_heads import blobs, make


def search(**changes):
    chosen = {"folds": 0, "trials": 100, "fixed": frozenset(), "jobs": 1, "seed": 0}
    return Search(**(chosen | changes))


def digests(n):
    return np.frombuffer(b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(n)), np.uint8).reshape(n, 32)


def run(head, chosen=None, noise=0.6, told=None):
    X, y = blobs(2, n=120, separation=noise)
    held = blobs(2, n=80, separation=noise, seed=1)
    parts = [Fold(np.arange(len(X)), held)]
    return grid_search.run(head, X, y, parts, chosen or search(), np.ones(2), told)


def test_the_simplest_within_one_standard_error_of_the_least_wins():
    head, outcome = run(make("ridge"))
    losses = np.array([trial.loss for trial in outcome.trials])
    best = outcome.trials[outcome.best]
    assert best.loss == losses.min()
    assert outcome.trials[outcome.chosen].loss <= best.loss + best.error
    assert (losses[: outcome.chosen] > best.loss + best.error).all()
    assert outcome.chosen < outcome.best
    assert head.alpha == outcome.trials[outcome.chosen].params["alpha"]
    assert not hasattr(head, "arrays_")


def test_loss_and_standard_error_are_those_of_the_rows_held_out():
    X, y = blobs(3, n=90, separation=0.5)
    held_X, held_y = blobs(3, n=60, separation=0.5, seed=1)
    parts = [Fold(np.arange(90), (held_X, held_y))]
    fixed = frozenset({"metric"})
    _, outcome = grid_search.run(make("knn"), X, y, parts, search(fixed=fixed), np.ones(3), None)
    for trial in outcome.trials:
        probability = make("knn", **trial.params).fit(X, y, None).predict_proba(held_X)
        losses = -np.log(probability[np.arange(60), held_y])
        assert trial.loss == pytest.approx(losses.mean(), rel=1e-12)
        assert trial.error == pytest.approx(losses.std() / np.sqrt(60), rel=1e-12)
        assert trial.accuracy == pytest.approx((probability.argmax(axis=1) == held_y).mean(), rel=1e-12)


def test_class_weights_weigh_the_rows_held_out():
    X, y = blobs(2, n=60, separation=0.3)
    parts = [Fold(np.arange(60), (X, y))]
    weights = np.array([3.0, 1.0])
    fixed = frozenset({"metric"})
    _, outcome = grid_search.run(make("knn"), X, y, parts, search(fixed=fixed), weights, None)
    probability = make("knn", **outcome.trials[0].params).fit(X, y, None).predict_proba(X)
    losses = -np.log(probability[np.arange(60), y])
    assert outcome.trials[0].loss == pytest.approx(np.average(losses, weights=weights[y]), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("centroid", "dense")])
def test_the_order_is_from_simple_to_less_simple_and_parallel_folds_change_nothing(name):
    X, y = blobs(3, n=90, separation=0.4)
    folds = assign(digests(90), y, folds=3, seed=0)
    parts = [Fold(np.flatnonzero(folds != k), (X[folds == k], y[folds == k])) for k in range(3)]
    one, other = (
        grid_search.run(make(name), X, y, parts, search(trials=9, folds=3, jobs=jobs), np.ones(3), None)
        for jobs in (1, 2)
    )
    assert one[1].trials == other[1].trials
    assert one[1].rows == 90


def test_logistic_walks_a_path_of_at_least_20_strengths_with_each_kind_of_penalty():
    tried = grid_search.candidates(make("logistic"), search())
    for ratio in (0.0, 0.5, 1.0):
        strengths = [one["C"] for one in tried if one["l1_ratio"] == ratio]
        assert len(strengths) >= 20
        assert strengths == sorted(strengths)


def test_dense_searches_layers_dropout_both_penalties_and_the_learning_rate():
    tried = grid_search.candidates(make("dense"), search())
    assert {"hidden", "dropout", "l1", "l2", "learning_rate"} == set(tried[0])
    assert len({tuple(one.values()) for one in tried}) == len(tried)
    assert tried[0]["hidden"] == ()


def test_a_value_that_is_given_is_not_searched():
    tried = grid_search.candidates(make("logistic", C=3.0), search(fixed=frozenset({"C"})))
    assert tried == [{"l1_ratio": ratio} for ratio in (1.0, 0.5, 0.0)]


@pytest.mark.parametrize(("name", "fixed"), [("centroid", ()), ("ridge", ("alpha",))])
def test_nothing_to_search_is_an_error(name, fixed):
    with pytest.raises(InputError, match=f"expected a parameter of `head` {name} that is left open"):
        grid_search.candidates(make(name), search(fixed=frozenset(fixed)))


def test_a_larger_grid_is_drawn_from_by_seed_and_stays_in_order():
    one, same, other = (grid_search.candidates(make("logistic"), search(trials=7, seed=seed)) for seed in (0, 0, 1))
    everything = grid_search.candidates(make("logistic"), search())
    assert one == same != other
    assert len(one) == 7
    assert [everything.index(trial) for trial in one] == sorted(everything.index(trial) for trial in one)


def test_folds_are_stratified_equal_and_do_not_depend_on_the_order_of_the_images():
    y = np.array([0] * 50 + [1] * 23 + [2] * 7)
    folds = assign(digests(80), y, folds=5, seed=0)
    assert set(np.bincount(folds).tolist()) == {16}
    for code in range(3):
        counts = np.bincount(folds[y == code], minlength=5)
        assert counts.max() - counts.min() <= 1
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_array_equal(assign(digests(80)[order], y[order], folds=5, seed=0), folds[order])
    assert (assign(digests(80), y, folds=5, seed=1) != folds).any()


def test_a_class_of_fewer_images_than_folds_is_held_out_image_by_image_and_a_single_one_never():
    folds = assign(digests(21), np.array([0] * 17 + [1] * 3 + [2]), folds=5, seed=0)
    assert len(set(folds[17:20].tolist())) == 3
    assert sorted(np.bincount(folds[:20]).tolist()) == [4] * 5
    assert folds[20] == -1


def test_more_folds_than_images_to_hold_out_is_an_error():
    with pytest.raises(InputError, match=r"`folds`: expected at most 4, the images of classes that have two .* 5"):
        assign(digests(5), np.array([0, 0, 0, 0, 1]), folds=5, seed=0)


def test_progress_counts_fits():
    told = []
    run(make("ridge"), search(), told=lambda done, total: told.append((done, total)))
    assert told == [(22, 22)]


@pytest.fixture(scope="module")
def noisy():
    """Rows (n, d) of two or three classes that overlap, and folds of them: weak penalties lose far."""

    def drawn(n_classes, n=600, d=200):
        X, y = blobs(n_classes, n=n, d=d, separation=0.06)
        folds = assign(digests(n), y, folds=4, seed=0)
        held = [np.flatnonzero(folds == k) for k in range(4)]
        return X, y, [Fold(np.flatnonzero(folds != k), (X[held[k]], y[held[k]]), held[k]) for k in range(4)]

    return drawn


def alone(X, y, folds, **params):
    """Mean loss of heads that were fitted to their optimum, each on its fold alone, and its standard error."""
    losses = np.concatenate(
        [
            -np.log(make("logistic", **params).fit(X[fold.rows], y[fold.rows], None).predict_proba(X[fold.places]))[
                np.arange(len(fold.places)), y[fold.places]
            ]
            for fold in folds
        ]
    )
    return losses.mean(), losses.std() / np.sqrt(len(losses))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_a_logistic_search_judges_as_fits_of_each_fold_do_and_chooses_the_same(noisy, n_classes, ratio):
    X, y, folds = noisy(n_classes)
    fixed = frozenset({"l1_ratio"})
    _, outcome = grid_search.run(
        make("logistic", l1_ratio=ratio), X, y, folds, search(fixed=fixed), np.ones(n_classes), None
    )
    expected = [alone(X, y, folds, l1_ratio=ratio, **trial.params) for trial in outcome.trials[::3]]
    for trial, (loss, error) in zip(outcome.trials[::3], expected, strict=True):
        assert abs(trial.loss - loss) < 0.2 * error + 1e-6
        assert trial.error == pytest.approx(error, rel=0.05, abs=1e-6)
    least, error = min(expected)
    found = min(range(len(expected)), key=lambda place: outcome.trials[3 * place].loss)
    assert expected[found][0] < least + 0.2 * error + 1e-6


def test_a_path_that_loses_is_left_and_said_so_without_a_number(noisy, tmp_path):
    X, y, folds = noisy(2)
    fixed, told = frozenset({"l1_ratio"}), []
    grid = grid_search.candidates(make("logistic"), search(fixed=fixed))
    _, outcome = grid_search.run(
        make("logistic"), X, y, folds, search(fixed=fixed), np.ones(2), lambda *done: told.append(done)
    )
    assert outcome.losing
    assert [trial.params for trial in outcome.trials] + list(outcome.losing) == grid
    best, last = outcome.trials[outcome.best], outcome.trials[-1]
    assert last.loss > outcome.trials[-2].loss > best.loss + 2 * best.error
    loss, _ = alone(X, y, folds, **outcome.losing[-1])
    assert loss > last.loss
    assert told[-1] == (4 * len(grid), 4 * len(grid))
    grid_search.write(outcome, tmp_path)
    with (tmp_path / "search.csv").open() as file:
        rows = list(csv.DictReader(file))[len(outcome.trials) :]
    assert {(row["loss"], row["loss_low"], row["accuracy"], row["choice"]) for row in rows} == {
        ("", "", "", "not tried: losing")
    }
    assert len(rows) == len(outcome.losing)


def test_rows_held_out_count_the_same_among_the_rows_and_beside_them(noisy):
    X, y, folds = noisy(2)
    one, other = (
        grid_search.run(make("logistic"), X, y, parts, search(trials=6), np.array([1.0, 3.0]), None)[1].trials
        for parts in (folds, [fold._replace(places=None) for fold in folds])
    )
    np.testing.assert_allclose(
        [trial[1:] for trial in one], [trial[1:] for trial in other], rtol=0, atol=0.1 * one[0].error
    )


@pytest.mark.parametrize(("n_classes", "ratio"), [(2, 0.0), (3, 0.0), (2, 1.0), (3, 0.5)])
def test_a_search_and_the_fit_after_it_have_the_same_bits_whatever_the_number_of_threads(
    noisy, n_classes, ratio, monkeypatch
):
    monkeypatch.setattr("pipeline.heads.standardise.BLOCK_ROWS", 50)
    X, y, folds = noisy(n_classes)
    found, chosen = [], search(trials=5, fixed=frozenset({"l1_ratio"}))
    for threads in (1, 2, 5):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        start = make("logistic", l1_ratio=ratio)
        head, outcome = grid_search.run(start, X, y, folds, chosen, np.ones(n_classes), None)
        found.append((outcome.trials, head.fit(X, y, None).arrays_["coef_"].tobytes()))
    assert found[0] == found[1] == found[2]


def test_the_head_that_a_search_chose_is_the_optimum_wherever_the_fit_starts(noisy):
    X, y, folds = noisy(3)
    head, _ = grid_search.run(make("logistic"), X, y, folds, search(trials=9), np.ones(3), None)
    assert head.near is not None
    warm, cold = head.fit(X, y, None), make("logistic", C=head.C, l1_ratio=head.l1_ratio).fit(X, y, None)
    np.testing.assert_allclose(warm.predict_proba(X), cold.predict_proba(X), rtol=0, atol=1e-6)


def test_the_table_has_a_row_a_candidate_and_marks_the_choice(tmp_path):
    trials = [
        Trial({"hidden": (), "l2": 0.1}, 0.5, 0.02, 0.8),
        Trial({"hidden": (8, 4), "l2": 0.0}, 0.49, 0.02, 0.81),
    ]
    grid_search.write(Outcome(trials, best=1, chosen=0, rows=40), tmp_path)
    with (tmp_path / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["choice"] for row in rows] == ["chosen", "best"]
    assert [row["hidden"] for row in rows] == ["none", "8,4"]
    assert (rows[0]["loss"], rows[0]["loss_low"], rows[0]["loss_high"]) == ("0.5", "0.48", "0.52")


@pytest.mark.parametrize("name", ["logistic", "ridge", "knn"])
def test_the_picture_of_every_grid_rings_the_candidate_that_was_chosen(name, tmp_path):
    _, outcome = run(make(name))
    drawn = []
    for chosen in (outcome.chosen, (outcome.chosen + 1) % len(outcome.trials)):
        grid_search.write(outcome._replace(chosen=chosen), tmp_path)
        with Image.open(tmp_path / "search.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        vermilion = (pixels[..., 0] > 180) & (pixels[..., 1] < 130) & (pixels[..., 2] < 60)
        drawn.append(vermilion[80:])  # below the title, which names the candidate, too
    gained, lost = drawn[1] & ~drawn[0], drawn[0] & ~drawn[1]
    assert gained.sum() > 20
    assert lost.sum() > 20
