"""One suite for all heads, then what each promises on its own, then artefacts that must be refused."""

import hashlib
import json
import zipfile
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pipeline.errors import ArtefactError, InputError
from pipeline.heads import registry, ridge, store
from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.dense_layers import logits
from pipeline.heads.registry import HEADS
from pipeline.heads.selection.cross_validation import Fold
from pipeline.heads.settings import PlateauSettings
from pipeline.heads.solvers import dense_network, dense_training
from pipeline.heads.standardise import (
    Standardised,
    class_weights,
    count_parameters,
    learn_scale,
    probabilities,
    standardise,
)
from pipeline.storage.json_files import publish

LOGISTIC = {"C": 1.0, "l1_ratio": 0.0, "class_weight": None, "max_iter": 1000, "seed": 0}
DENSE = {
    "hidden": (8,),
    "activation": "relu",
    "dropout": 0.1,
    "l1": 0.0,
    "l2": 1e-4,
    "optimizer": "adam",
    "learning_rate": 0.03,
    "batch_size": 60,
    "epochs": 6,
    "patience": 0,
    "class_weight": None,
    "standardize": "standard",
    "seed": 0,
    "plateau": PlateauSettings(),
}
RIDGE = {"alpha": 10.0, "class_weight": None}
CENTROID = {"class_weight": None}
KNN = {"neighbors": 9, "metric": "euclidean", "class_weight": None}
PARAMS = {"logistic": LOGISTIC, "dense": DENSE, "ridge": RIDGE, "centroid": CENTROID, "knn": KNN}
RECORD = {"spec": {"size": 224, "weights": {"seed": 1}}}


def make(name, **changes):
    return HEADS[name](**(PARAMS[name] | changes))


def blobs(n_classes, n=180, d=12, seed=0, separation=3.0):
    """Return rows (n, d) float32 around one centre a class, and their codes."""
    rng = np.random.default_rng(seed)
    centres = separation * np.random.default_rng(99).normal(size=(n_classes, d))
    y = np.arange(n, dtype=np.int64) % n_classes
    return (centres[y] + rng.normal(size=(n, d)) + 5).astype(np.float32), y


@cache
def fitted(name, n_classes):
    """Return a head that several tests look at, and none changes."""
    return make(name).fit(*blobs(n_classes), blobs(n_classes, seed=2))


def record(n_classes):
    return RECORD | {"classes": [f"class {code}" for code in range(n_classes)]}


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


every_head = pytest.mark.parametrize("name", HEADS)
two_and_three_classes = pytest.mark.parametrize("n_classes", [2, 3])


def test_every_head_of_the_table_is_in_this_suite():
    assert PARAMS.keys() == HEADS.keys()
    assert all(registry.parameters_of(name) == list(PARAMS[name]) for name in HEADS)


@every_head
@two_and_three_classes
class TestEveryHeadWhateverTheClasses:
    def test_learns_blobs_and_gives_probabilities_that_sum_to_one(self, name, n_classes):
        held_X, held_y = blobs(n_classes, seed=1)
        probability = fitted(name, n_classes).predict_proba(held_X)
        assert probability.shape == (len(held_X), n_classes)
        assert probability.dtype == np.float64
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=0, atol=1e-12)
        assert (probability.argmax(axis=1) == held_y).all()

    def test_gives_the_same_bits_after_save_and_load(self, name, n_classes, tmp_path):
        X, _ = blobs(n_classes)
        head = fitted(name, n_classes)
        store.save(head, tmp_path, record(n_classes))
        loaded, kept = store.load(tmp_path)
        np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X), strict=True)
        assert loaded.history_ == head.history_
        assert {parameter: getattr(loaded, parameter) for parameter in PARAMS[name]} == PARAMS[name]
        assert kept["classes"] == record(n_classes)["classes"]
        assert kept["spec"] == RECORD["spec"]
        assert kept["n_parameters"] == count_parameters(head.layout(12, n_classes))

    def test_equal_fits_write_equal_bytes(self, name, n_classes, tmp_path):
        again = make(name).fit(*blobs(n_classes), blobs(n_classes, seed=2))
        for folder, head in (("one", fitted(name, n_classes)), ("two", again)):
            store.save(head, tmp_path / folder, record(n_classes))
        assert files(tmp_path / "one") == files(tmp_path / "two")

    def test_order_of_the_rows_does_not_change_the_classes(self, name, n_classes):
        X, y = blobs(n_classes)
        order = np.random.default_rng(3).permutation(len(X))
        one = fitted(name, n_classes).predict_proba(X)
        other = make(name).fit(X[order], y[order], None).predict_proba(X)
        np.testing.assert_array_equal(one.argmax(axis=1), other.argmax(axis=1))

    def test_learned_arrays_are_those_of_its_layout(self, name, n_classes):
        head = fitted(name, n_classes)
        layout = head.layout(12, n_classes)
        received = {key: (array.shape, str(array.dtype)) for key, array in head.arrays_.items()}
        kept = {key: tuple(180 if size is None else size for size in slot.shape) for key, slot in layout.items()}
        assert received == {key: (kept[key], slot.dtype) for key, slot in layout.items()}


@every_head
class TestEveryHead:
    def test_class_weights_raise_the_recall_of_the_minority(self, name):
        X, y = blobs(2, n=600, d=2, separation=0.4)
        kept = (y == 0) | (np.arange(len(y)) % 20 == 1)
        X, y = X[kept], y[kept]
        assert np.bincount(y).tolist() == [300, 30]
        recalls = [
            (make(name, class_weight=choice).fit(X, y, None).predict_proba(X)[y == 1].argmax(axis=1) == 1).mean()
            for choice in (None, "balanced")
        ]
        assert recalls[1] > recalls[0] + 0.3

    def test_rows_given_to_it_are_not_changed(self, name):
        X, y = blobs(3)
        before = X.copy(), y.copy()
        make(name).fit(X, y, (X, y)).predict_proba(X)
        np.testing.assert_array_equal(X, before[0])
        np.testing.assert_array_equal(y, before[1])

    def test_float16_rows_give_what_they_give_as_float32(self, name):
        X, y = blobs(2)
        half = X.astype(np.float16)
        as_half = make(name).fit(half, y, None).predict_proba(half)
        single = half.astype(np.float32)
        as_single = make(name).fit(single, y, None).predict_proba(single)
        np.testing.assert_allclose(as_half, as_single, rtol=0, atol=1e-5)

    def test_one_column_suffices(self, name):
        X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        y = (X[:, 0] > 0).astype(np.int64)
        probability = make(name, **({"epochs": 30} if name == "dense" else {})).fit(X, y, None).predict_proba(X)
        assert (probability.argmax(axis=1) == y).mean() > 0.9

    def test_constant_columns_are_safe(self, name):
        X, y = blobs(2)
        X[:, 3], X[:, 4] = 0.0, 0.1
        probability = make(name).fit(X, y, None).predict_proba(X)
        assert np.isfinite(probability).all()
        assert (probability.argmax(axis=1) == y).all()

    def test_another_seed_is_another_fit_unless_the_solver_has_no_randomness(self, name):
        X, y = blobs(2, separation=0.5)
        seeds = [{"seed": seed} if "seed" in PARAMS[name] else {} for seed in (0, 1)]
        one, other = (make(name, **seed).fit(X, y, None).predict_proba(X) for seed in seeds)
        assert np.array_equal(one, other) == (name != "dense")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refuses_features_that_are_not_finite(self, name, bad):
        X, y = blobs(2)
        X[7, 2] = bad
        for call in (lambda: make(name).fit(X, y, None), lambda: fitted(name, 2).predict_proba(X)):
            with pytest.raises(InputError, match="expected finite numbers, received NaN or infinity in row 7"):
                call()

    def test_refuses_rows_of_another_width(self, name):
        with pytest.raises(InputError, match="expected 12 columns, received 11"):
            fitted(name, 2).predict_proba(blobs(2)[0][:, :11])

    @pytest.mark.parametrize("codes", [[0] * 180, [0, 2] * 90, [1, 2] * 90, [-1, 0] * 90])
    def test_refuses_codes_that_skip_a_class(self, name, codes):
        with pytest.raises(InputError, match="expected codes 0 to K - 1 of two classes or more"):
            make(name).fit(blobs(2)[0], np.array(codes), None)

    def test_predicts_no_rows_as_no_rows(self, name):
        assert fitted(name, 3).predict_proba(blobs(3)[0][:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("logistic", {"C": 0}),
        ("logistic", {"C": "1"}),
        ("logistic", {"C": float("nan")}),
        ("logistic", {"C": True}),
        ("logistic", {"l1_ratio": 1.1}),
        ("logistic", {"class_weight": "none"}),
        ("logistic", {"max_iter": 0}),
        ("logistic", {"seed": -1}),
        ("dense", {"hidden": [8]}),
        ("dense", {"hidden": (8, 0)}),
        ("dense", {"activation": "softmax"}),
        ("dense", {"dropout": 1.0}),
        ("dense", {"l1": -1.0}),
        ("dense", {"l2": float("inf")}),
        ("dense", {"optimizer": "lion"}),
        ("dense", {"learning_rate": 0.0}),
        ("dense", {"batch_size": 2.5}),
        ("dense", {"epochs": 0}),
        ("dense", {"patience": -1}),
        ("dense", {"standardize": None}),
        ("ridge", {"alpha": 0.0}),
        ("ridge", {"class_weight": "heavy"}),
        ("centroid", {"class_weight": 1}),
        ("knn", {"neighbors": 0}),
        ("knn", {"metric": "cityblock"}),
    ],
)
def test_a_parameter_out_of_range_is_named_with_expected_and_received(name, change):
    (parameter,) = change
    with pytest.raises(InputError, match=f"^`{parameter}`: expected .*, received "):
        make(name, **change).fit(*blobs(2), None)


class TestRows:
    def test_scale_is_mean_and_population_deviation_in_float64(self):
        X = np.array([[1, 0.1], [3, 0.1], [8, 0.1]], np.float32)
        mean, scale = learn_scale(X)
        np.testing.assert_allclose(mean, [4, np.float32(0.1)])
        np.testing.assert_allclose(scale, [np.sqrt(26 / 3), 1])

    def test_blocks_do_not_change_the_scale(self):
        X = np.random.default_rng(0).normal(1000, 1, size=(3000, 3)).astype(np.float32)
        mean, scale = learn_scale(X)
        np.testing.assert_allclose(mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(scale, X.astype(np.float64).std(axis=0), rtol=1e-12)
        np.testing.assert_allclose(standardise(X, mean, scale).std(axis=0), 1, rtol=1e-12)

    def test_balanced_weights_are_n_over_k_times_count(self):
        y = np.array([0, 0, 0, 1])
        np.testing.assert_array_equal(class_weights(y, "balanced"), [4 / 6, 4 / 2])
        np.testing.assert_array_equal(class_weights(y, None), [1, 1])

    def test_one_logit_is_the_log_odds_of_the_second_class_and_never_overflows(self):
        received = probabilities(np.array([[0.0], [np.log(3)], [1e4], [-1e4]]))
        np.testing.assert_allclose(received, [[0.5, 0.5], [0.25, 0.75], [0, 1], [1, 0]])


class TestLogistic:
    @two_and_three_classes
    @pytest.mark.parametrize(
        "changes", [{}, {"C": 0.01, "class_weight": "balanced"}, {"l1_ratio": 1.0, "C": 0.1}, {"l1_ratio": 0.5}]
    )
    def test_equals_a_scikit_learn_pipeline(self, n_classes, changes):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        X, y = blobs(n_classes, separation=0.5)
        params = LOGISTIC | changes
        solver = "saga" if params["l1_ratio"] else "lbfgs"
        model = LogisticRegression(
            C=params["C"],
            l1_ratio=params["l1_ratio"],
            class_weight=params["class_weight"],
            max_iter=10_000,
            solver=solver,
            tol=1e-8,
            random_state=0,
        )
        pipe = make_pipeline(StandardScaler(), model).fit(X.astype(np.float64), y)
        head = make("logistic", **changes).fit(X, y, None)
        expected = pipe.predict_proba(X.astype(np.float64))
        np.testing.assert_allclose(head.predict_proba(X), expected, rtol=0, atol=1e-6)

    def test_lasso_leaves_out_useless_features(self):
        X, y = blobs(2, separation=0.5)
        ridge, lasso = (make("logistic", C=0.1, l1_ratio=ratio).fit(X, y, None) for ratio in (0.0, 1.0))
        assert (ridge.arrays_["coef_"] != 0).all()
        assert 0 < (lasso.arrays_["coef_"] == 0).sum() < 12

    def test_says_when_the_solver_did_not_converge_and_prints_nothing(self, capfd, recwarn):
        head = make("logistic", max_iter=1).fit(*blobs(3, separation=0.5), None)
        assert len(head.warnings_) == 1
        assert "`max_iter=1`," in head.warnings_[0]
        assert make("logistic").fit(*blobs(3, separation=0.5), None).warnings_ == []
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list

    def test_counts_one_parameter_a_feature_and_one_more_for_two_classes(self):
        assert count_parameters(make("logistic").layout(1280, 2)) == 1281
        assert count_parameters(make("logistic").layout(1280, 10)) == 12810

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("ratio", [0.5, 1.0])
    def test_reaches_an_objective_no_higher_than_scikit_learn_s_with_an_l1_penalty(self, n_classes, ratio):
        from sklearn.linear_model import LogisticRegression

        X, y = blobs(n_classes, n=120, d=40, separation=0.3)
        grid = [{"C": C, "l1_ratio": ratio} for C in (0.02, 0.1, 0.5, 2.0)]
        (path,) = make("logistic").fit_grid(X, y, [everything(X, y)], grid, jobs=1, progress=None)
        Z = standardise(X, *learn_scale(X))
        for head in path:
            model = LogisticRegression(C=head.C, l1_ratio=ratio, solver="saga", tol=1e-6, max_iter=20_000).fit(Z, y)
            own = objective(head, Z, y, head.arrays_["coef_"], head.arrays_["intercept_"])
            assert own <= objective(head, Z, y, model.coef_, model.intercept_) * (1 + 1e-6)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_path_has_the_coefficients_of_scikit_learn_at_each_strength(self, n_classes):
        from sklearn.linear_model import LogisticRegression

        X, y = blobs(n_classes, n=90, d=60, separation=0.3)
        grid = [{"C": C} for C in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)]
        (path,) = make("logistic").fit_grid(X, y, [everything(X, y)], grid, jobs=1, progress=None)
        Z = standardise(X, *learn_scale(X))
        for head in path:
            expected = LogisticRegression(C=head.C, tol=1e-10, max_iter=10_000).fit(Z, y).coef_
            apart = np.linalg.norm(head.arrays_["coef_"] - expected) / np.linalg.norm(expected)
            assert apart < 1e-3

    def test_parts_of_a_grid_come_out_as_fits_on_their_rows_alone(self):
        X, y = blobs(3, separation=0.5)
        rows = np.flatnonzero(np.arange(len(X)) % 5 != 0)
        part = Fold(rows, (X, y))
        grid = [{"C": 1.0}, {"C": 0.01, "l1_ratio": 0.5}, {"C": 0.1}]
        for choice in (None, "balanced"):
            head = make("logistic", class_weight=choice)
            _, fitted = head.fit_grid(X, y, [everything(X, y), part], grid, jobs=1, progress=None)
            for one, candidate in zip(fitted, grid, strict=True):
                alone = make("logistic", class_weight=choice, **candidate).fit(X[rows], y[rows], None)
                assert candidate["C"] == one.C
                np.testing.assert_allclose(one.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-4)


def everything(X, y):
    return Fold(np.arange(len(X)), (X, y))


def objective(head, Z, y, coef, intercept):
    """scikit-learn's objective of a logistic regression."""
    probability = probabilities(Z @ coef.T + intercept)
    penalty = head.l1_ratio * np.abs(coef).sum() + (1 - head.l1_ratio) / 2 * np.square(coef).sum()
    return penalty - head.C * np.log(probability[np.arange(len(y)), y]).sum()


class TestRidge:
    @two_and_three_classes
    @pytest.mark.parametrize("shape", [(180, 12), (60, 80)])
    @pytest.mark.parametrize("choice", [None, "balanced"])
    def test_scores_are_those_of_scikit_learn_s_ridge_classifier_times_a_factor(self, n_classes, shape, choice):
        from sklearn.linear_model import RidgeClassifier

        X, y = blobs(n_classes, *shape, separation=0.5)
        X, y = (
            X[y < np.where(np.arange(len(y)) % 3, n_classes, 1)],
            y[y < np.where(np.arange(len(y)) % 3, n_classes, 1)],
        )
        head = make("ridge", alpha=3.0, class_weight=choice).fit(X, y, None)
        Z = standardise(X, *learn_scale(X))
        scores = RidgeClassifier(alpha=3.0, class_weight=choice).fit(Z, y).decision_function(Z).reshape(len(Z), -1)
        logits = Z @ head.arrays_["coef_"].T + head.arrays_["intercept_"]
        factor = (logits * scores).sum() / (scores * scores).sum()
        assert factor > 0
        np.testing.assert_allclose(logits, factor * scores, rtol=0, atol=1e-9 * factor)

    @pytest.mark.parametrize("shape", [(24, 5), (24, 40)])
    @pytest.mark.parametrize("choice", [None, "balanced"])
    def test_scores_without_a_row_are_those_of_a_fit_on_all_others(self, shape, choice):
        X, y = blobs(3, *shape, separation=0.5)
        Z = Standardised(X, *learn_scale(X))
        weights = np.linspace(0.5, 1.5, len(X)) if choice else np.ones(len(X))
        targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
        normal = ridge._decompose(Z, targets, weights, dual=True)
        judged, (left_out,) = ridge._left_out(Z, targets, weights, normal, np.array([2.0]))
        assert judged.tolist() == list(range(len(X)))
        ((_, rows),) = Z.blocks()
        for row in range(len(X)):
            kept = np.arange(len(X)) != row
            centre = np.average(rows[kept], axis=0, weights=weights[kept])
            mean = np.average(targets[kept], axis=0, weights=weights[kept])
            A, b = rows[kept] - centre, (targets[kept] - mean) * weights[kept][:, None]
            coef = np.linalg.solve(A.T @ (A * weights[kept][:, None]) + 2.0 * np.eye(shape[1]), A.T @ b)
            np.testing.assert_allclose(left_out[row], (rows[row] - centre) @ coef + mean, rtol=0, atol=1e-10)

    def test_of_many_rows_blocks_that_lie_apart_fit_the_factor(self, monkeypatch):
        X, y = blobs(2, n=4000, separation=0.2)
        every = make("ridge").fit(X, y, None)
        monkeypatch.setattr("pipeline.heads.standardise.BLOCK_ROWS", 100)
        monkeypatch.setattr(ridge, "FACTOR_ROWS", 1000)
        some = make("ridge").fit(X, y, None)
        ratio = some.arrays_["coef_"] / every.arrays_["coef_"]
        assert ratio.std() < 1e-8
        assert ratio.mean() == pytest.approx(1.0, abs=0.1)
        assert ratio.mean() != 1.0

    def test_every_strength_of_a_grid_comes_out_as_alone(self):
        X, y = blobs(3, separation=0.5)
        grid = [{"alpha": alpha} for alpha in (100.0, 1.0, 0.1)]
        (fitted,) = make("ridge").fit_grid(X, y, [everything(X, y)], grid, jobs=1, progress=None)
        for one, candidate in zip(fitted, grid, strict=True):
            alone = make("ridge", **candidate).fit(X, y, None)
            np.testing.assert_allclose(one.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-8)

    def test_more_columns_than_it_can_hold_products_of_is_an_error_with_a_remedy(self, monkeypatch):
        monkeypatch.setattr(ridge, "LARGEST_GRAM", 10)
        with pytest.raises(InputError, match=r"ridge: expected at most 10 rows or columns.*`head='logistic'`"):
            make("ridge").fit(*blobs(2), None)

    def test_features_that_are_all_alike_leave_the_frequencies_of_the_classes(self):
        X, y = np.ones((8, 20)), np.array([0, 1] * 4)
        np.testing.assert_allclose(make("ridge").fit(X, y, None).predict_proba(X), 0.5)


class TestCentroid:
    @two_and_three_classes
    def test_classes_are_those_of_the_nearest_mean(self, n_classes):
        from sklearn.neighbors import NearestCentroid

        X, y = blobs(n_classes, separation=0.3)
        Z = standardise(X, *learn_scale(X))
        expected = NearestCentroid().fit(Z, y).predict(Z)
        received = make("centroid", class_weight="balanced").fit(X, y, None).predict_proba(X).argmax(axis=1)
        np.testing.assert_array_equal(received, expected)

    def test_one_photo_a_class_suffices(self):
        X, y = blobs(3, n=3)
        probability = make("centroid").fit(X, y, None).predict_proba(blobs(3, seed=5)[0])
        assert (probability.argmax(axis=1) == blobs(3, seed=5)[1]).mean() > 0.9
        assert probability.max() < 1

    def test_probabilities_are_right_as_often_as_they_say(self):
        """Normal classes of one spread: the factor recovers the true posterior."""
        rng = np.random.default_rng(0)
        y = np.arange(20_000) % 2
        X = (rng.normal(size=(20_000, 3)) + y[:, None] * [1.0, 0.0, 0.0]).astype(np.float32)
        probability = make("centroid").fit(X, y, None).predict_proba(X)[:, 1]
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(0.5 - X[:, 0])), rtol=0, atol=0.03)


class TestKnn:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_votes_are_those_of_scikit_learn_with_one_more_neighbour_shared_by_all(self, metric):
        from sklearn.neighbors import KNeighborsClassifier

        X, y = blobs(3, separation=0.4)
        held = standardise(blobs(3, seed=4, separation=0.4)[0], *learn_scale(X))
        model = KNeighborsClassifier(9, metric=metric).fit(standardise(X, *learn_scale(X)), y)
        received = make("knn", metric=metric).fit(X, y, None).predict_proba(blobs(3, seed=4, separation=0.4)[0])
        np.testing.assert_allclose(received, (9 * model.predict_proba(held) + 1 / 3) / 10, rtol=0, atol=1e-12)

    def test_of_rows_that_are_equally_near_the_first_counts(self):
        X = np.array([[0.0], [1.0], [1.0], [2.0]], np.float32)
        head = make("knn", neighbors=1).fit(X, np.array([0, 1, 0, 1]), None)
        assert head.predict_proba(np.array([[1.0]], np.float32)).argmax() == 1

    def test_more_neighbours_than_rows_are_all_rows(self):
        X, y = blobs(2, n=6)
        np.testing.assert_allclose(make("knn", neighbors=99).fit(X, y, None).predict_proba(X), 0.5)

    def test_does_not_claim_to_be_a_stack_of_layers(self):
        with pytest.raises(InputError, match="knn: expected a head that is a map of the features"):
            fitted("knn", 2).stack()


@pytest.mark.parametrize("name", [name for name in HEADS if name != "knn"])
@two_and_three_classes
def test_a_head_is_its_stack_of_layers(name, n_classes):
    X, _ = blobs(n_classes)
    stack = fitted(name, n_classes).stack()
    values = standardise(X, stack.mean, stack.scale)
    for kernel, bias in zip(stack.kernels[:-1], stack.biases[:-1], strict=True):
        values = ACTIVATIONS[stack.activation](values @ kernel + bias)
    received = probabilities(values @ stack.kernels[-1] + stack.biases[-1])
    np.testing.assert_allclose(received, fitted(name, n_classes).predict_proba(X), rtol=0, atol=1e-5)


class TestDense:
    def test_two_classes_are_one_logit(self):
        X, _ = blobs(2)
        head = fitted("dense", 2)
        assert head.arrays_["kernel_1_"].shape == (8, 1)
        second = 1 / (
            1 + np.exp(-logits(standardise(X, *learn_scale(X)), head.stack().kernels, head.stack().biases, "relu"))
        )
        np.testing.assert_allclose(head.predict_proba(X), np.hstack([1 - second, second]), rtol=0, atol=1e-6)

    def test_without_hidden_layers_it_is_softmax_regression(self):
        X, y = blobs(3)
        head = make("dense", hidden=(), epochs=20).fit(X, y, None)
        assert list(head.arrays_) == ["mean_", "scale_", "kernel_0_", "bias_0_"]
        assert (head.predict_proba(X).argmax(axis=1) == y).all()

    def test_counts_the_published_parameters_of_vgg16_with_two_wide_layers(self):
        assert count_parameters(make("dense", hidden=(4096, 1024)).layout(25088, 2)) == 106_960_897

    def test_same_seed_gives_the_same_weights_whatever_ran_before(self):
        X, y = blobs(3)
        one = make("dense", dropout=0.5).fit(X, y, None).arrays_
        np.random.seed(123)
        make("dense", dropout=0.5, seed=1).fit(X, y, None)
        other = make("dense", dropout=0.5).fit(X, y, None).arrays_
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])

    def test_history_has_a_row_an_epoch_and_validation_only_if_given(self):
        X, y = blobs(2)
        told = []
        head = make("dense", epochs=3).fit(X, y, (X, y), lambda done, total: told.append((done, total)))
        assert [row["epoch"] for row in head.history_] == [1, 2, 3]
        assert all(list(row) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"] for row in head.history_)
        assert told == [(1, 3), (2, 3), (3, 3)]
        assert list(make("dense", epochs=1).fit(X, y, None).history_[0]) == ["epoch", "loss", "accuracy"]

    @two_and_three_classes
    def test_last_validation_loss_is_the_cross_entropy_plus_the_penalties(self, n_classes):
        X, y = blobs(n_classes, n=1100)
        head = make("dense", epochs=2, l1=0.01, l2=0.02).fit(X, y, (X, y))
        probability = head.predict_proba(X)
        kernels = [head.arrays_[f"kernel_{i}_"] for i in range(2)]
        penalty = sum(0.01 * np.abs(kernel).sum() + 0.02 * np.square(kernel).sum() for kernel in kernels)
        expected = penalty - np.log(probability[np.arange(len(y)), y]).mean()
        assert head.history_[-1]["val_loss"] == pytest.approx(expected, rel=1e-5)
        assert head.history_[-1]["val_accuracy"] == pytest.approx((probability.argmax(axis=1) == y).mean())

    def test_early_stopping_restores_the_weights_of_the_lowest_validation_loss(self):
        X, y = blobs(2, n=60, separation=0.3)
        held = blobs(2, n=60, separation=0.3, seed=1)
        head = make("dense", hidden=(64,), epochs=200, patience=4, learning_rate=0.05, l2=0.0).fit(X, y, held)
        losses = [row["val_loss"] for row in head.history_]
        assert len(losses) < 200
        assert int(np.argmin(losses)) == len(losses) - 5
        probability = head.predict_proba(held[0])
        restored = -np.log(probability[np.arange(len(held[1])), held[1]]).mean()
        assert restored == pytest.approx(min(losses), rel=1e-4)

    def test_early_stopping_without_validation_rows_says_the_remedy(self):
        with pytest.raises(InputError, match=r"`patience`: expected validation rows .* give some, or `patience=0`"):
            make("dense", patience=3).fit(*blobs(2), None)

    def test_networks_trained_together_come_out_as_alone(self):
        X, y = blobs(3, separation=0.3)
        held = blobs(3, seed=2, separation=0.3)
        grid = [{"hidden": (), "l2": 0.1}, {"dropout": 0.5}, {"learning_rate": 0.3}]
        folds = [Fold(np.arange(count), held) for count in (len(X), len(X) - 5)]
        together = make("dense", patience=2).fit_grid(X, y, folds, grid, jobs=1, progress=None)
        second = (together[1][1], grid[1], len(X) - 5)
        for one, candidate, count in (*((*both, len(X)) for both in zip(together[0], grid, strict=True)), second):
            alone = make("dense", patience=2, **candidate).fit(X[:count], y[:count], held)
            assert one.history_ == alone.history_
            np.testing.assert_array_equal(one.predict_proba(X), alone.predict_proba(X))

    def test_a_candidate_that_diverges_does_not_stop_the_others(self):
        X, y = blobs(3)
        head = make("dense", optimizer="sgd", hidden=(8, 8))
        grid = [{"learning_rate": 1e30}, {"learning_rate": 0.1}]
        ((lost, won),) = head.fit_grid(X, y, [everything(X, y)], grid, jobs=1, progress=None)
        assert "training diverged" in lost.warnings_[0]
        assert np.isfinite(lost.predict_proba(X)).all()
        assert (won.predict_proba(X).argmax(axis=1) == y).mean() > 0.9

    def test_more_rows_than_are_shuffled_at_once_are_shuffled_by_runs_and_none_is_dropped(self, monkeypatch):
        monkeypatch.setattr(dense_training, "RUN_ROWS", 8)
        monkeypatch.setattr(dense_training, "SHUFFLED_VALUES", 32 * 2)
        X = np.stack([np.arange(100.0), np.zeros(100)], axis=1).astype(np.float32)
        y = np.arange(100)
        rng = np.random.default_rng(0)
        batches = list(dense_training.shuffled(X, y, rng, 10))
        order = np.concatenate([codes for _, codes in batches])
        assert sorted(order.tolist()) == list(range(100))
        np.testing.assert_array_equal(np.concatenate([rows for rows, _ in batches])[:, 0], order)
        assert len(set((order[:32] // 8).tolist())) == 4
        assert order.tolist() != [codes.item() for _, codes in dense_training.shuffled(X, y, rng, 1)]

    def test_standardize_none_leaves_the_features_as_they_are(self):
        X, y = blobs(2)
        head = make("dense", standardize="none").fit(X, y, None)
        assert (head.arrays_["mean_"] == 0).all()
        assert (head.arrays_["scale_"] == 1).all()

    @pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
    def test_every_optimizer_lowers_the_loss(self, optimizer):
        X, y = blobs(2)
        history = make("dense", optimizer=optimizer).fit(X, y, None).history_
        assert history[-1]["loss"] < history[0]["loss"]

    def test_divergence_is_an_error_that_names_the_learning_rate(self):
        with pytest.raises(InputError, match="training diverged; lower `learning_rate`"):
            make("dense", optimizer="sgd", learning_rate=1e30, hidden=(8, 8)).fit(*blobs(3), None)

    @pytest.mark.parametrize("fit", ["fit", "fit_grid", "fit_folds"])
    def test_the_threads_of_the_linear_algebra_and_the_processors_change_no_bit(self, fit, monkeypatch):
        monkeypatch.setattr(dense_network, "PIECE", 200)  # 14 pieces of the first kernel, for the threads to share
        X, y = blobs(3, n=600, d=40)
        folds = [Fold(np.arange(500), blobs(3, seed=2, d=40)), Fold(np.arange(600), blobs(3, seed=3, d=40))]
        found = []
        for threads, processors in ((1, 1), (2, 2), (2, 5)):
            monkeypatch.setattr("os.cpu_count", lambda count=processors: count)
            head = make("dense", hidden=(64, 32), patience=2, dropout=0.5)
            with threadpool_limits(threads):
                if fit == "fit":
                    fitted = [head.fit(X, y, folds[0].held)]
                elif fit == "fit_grid":
                    (fitted,) = head.fit_grid(X, y, folds[:1], [{"l2": l2} for l2 in (0.0, 0.1)], jobs=1, progress=None)
                else:
                    fitted = head.fit_folds(X, y, folds, None)
            found.append([array.tobytes() for one in fitted for array in one.arrays_.values()])
        assert found[0] == found[1] == found[2]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """One saved head of each kind; tests copy it before they damage it."""
    root = tmp_path_factory.mktemp("stored")
    for name in HEADS:
        store.save(fitted(name, 2), root / name, record(2))
    return root


@pytest.fixture(params=HEADS)
def saved(request, stored, tmp_path):
    for name, data in files(stored / request.param).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def edit(directory, **changes):
    """Change keys of head.json; None removes one."""
    path = directory / "head.json"
    document = json.loads(path.read_text()) | changes
    publish(path, {key: value for key, value in document.items() if value is not None})


def resign(directory):
    """Make head.json vouch for the files as they are now, as a forger would."""
    names = [name for name in files(directory) if name != "head.json"]
    edit(directory, files={name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names})


def forge(directory, **arrays):
    """Put other arrays under an honest digest."""
    with np.load(directory / "arrays.npz") as honest:
        kept = {name: honest[name] for name in honest.files} | arrays
    np.savez(directory / "arrays.npz", **{name: array for name, array in kept.items() if array is not None})
    resign(directory)


class Mine:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (print, ("executed",))


def test_npz_entries_carry_no_date(saved):
    with zipfile.ZipFile(saved / "arrays.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_head_over_another_leaves_nothing_of_it(stored, tmp_path):
    for name in ("dense", "logistic"):
        head, kept = store.load(stored / name)
        store.save(head, tmp_path, kept)
    assert files(tmp_path) == files(stored / "logistic")


def test_a_kill_between_two_files_is_noticed(saved, stored):
    for name in HEADS:
        if (arrays := (stored / name / "arrays.npz").read_bytes()) != (saved / "arrays.npz").read_bytes():
            (saved / "arrays.npz").write_bytes(arrays)
            break
    with pytest.raises(ArtefactError, match=r"arrays\.npz: expected sha256"):
        store.load(saved)


def test_object_arrays_are_refused_and_not_executed(saved, capfd):
    forge(saved, mean_=np.array([Mine()] * 12, dtype=object))
    with pytest.raises(ArtefactError, match=r"arrays\.npz"):
        store.load(saved)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean_": np.zeros(11)}, r"mean_ of shape \(12,\), float64.* received shape \(11,\)"),
        ({"mean_": np.zeros(12, np.float32)}, "mean_ of shape .* float64.* received .*float32"),
        ({"mean_": np.full(12, np.nan)}, "mean_ to be finite"),
        ({"scale_": np.zeros(12)}, "scale_ above 0"),
        ({"mean_": None}, "expected .*mean_.npy"),
        ({"more_": np.zeros(1)}, "received .*more_.npy"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, arrays, message):
    forge(saved, **arrays)
    with pytest.raises(ArtefactError, match=message):
        store.load(saved)


def test_compressed_arrays_are_refused_since_they_may_be_a_bomb(saved):
    with np.load(saved / "arrays.npz") as honest:
        np.savez_compressed(saved / "arrays.npz", **honest)
    resign(saved)
    with pytest.raises(ArtefactError, match="without compression"):
        store.load(saved)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY\x01\x00"])
def test_arrays_that_are_no_npz_are_refused(saved, data):
    (saved / "arrays.npz").write_bytes(data)
    resign(saved)
    with pytest.raises(ArtefactError, match=r"arrays\.npz: expected readable arrays"):
        store.load(saved)


def test_half_a_file_of_arrays_is_refused(saved):
    data = (saved / "arrays.npz").read_bytes()
    (saved / "arrays.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtefactError, match=r"arrays\.npz: expected sha256"):
        store.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\xff", "[" * 100_000, '{"format": NaN}'])
def test_a_head_json_that_is_garbage_is_refused(saved, text):
    (saved / "head.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtefactError, match=r"head\.json: expected"):
        store.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"head": "forest"},
        {"head": ["logistic"]},
        {"params": None},
        {"params": {"C": 1.0}},
        {"params": [1]},
        {"n_features": 0},
        {"n_features": "12"},
        {"classes": None},
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", 1]},
        {"spec": None},
        {"spec": "x"},
        {"files": None},
        {"files": {"../elsewhere": "0"}},
    ],
)
def test_a_head_json_with_missing_or_wrong_keys_is_refused(saved, changes):
    edit(saved, **changes)
    with pytest.raises(ArtefactError, match=r"head\.json: expected"):
        store.load(saved)


def test_a_parameter_out_of_range_in_head_json_is_refused(saved):
    params = json.loads((saved / "head.json").read_text())["params"]
    edit(saved, params=params | {"class_weight": -1})
    with pytest.raises(ArtefactError, match=r"head\.json: `class_weight`: expected one of None, balanced"):
        store.load(saved)


def test_more_features_than_the_arrays_hold_are_refused_before_anything_is_allocated(saved):
    edit(saved, n_features=10**15)
    with pytest.raises(ArtefactError, match="of shape"):
        store.load(saved)


def test_a_missing_head_says_what_was_expected(tmp_path):
    with pytest.raises(ArtefactError, match=r"nowhere/head\.json: expected a trained head"):
        store.load(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["arrays.npz", "history.csv"])
def test_a_missing_file_is_named(stored, tmp_path, file):
    for name, data in files(stored / "dense").items():
        if name != file:
            (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=f"{file}: expected a file of a trained head, received none"):
        store.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "epoch,loss\n1,0.5\n", "epoch,loss,accuracy\n1,0.5\n", "epoch,loss,accuracy\n1,nan,0.5\n", "\xff"],
)
def test_a_history_that_is_garbage_is_refused(stored, tmp_path, text):
    for name, data in files(stored / "dense").items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "history.csv").write_bytes(text.encode("latin-1"))
    resign(tmp_path)
    with pytest.raises(ArtefactError, match=r"history\.csv: expected"):
        store.load(tmp_path)
