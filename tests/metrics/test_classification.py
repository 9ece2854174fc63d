import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from kerastag.metrics import class_report, compute_metrics, d_prime


def tied_problem(seed, num_clips=400, num_classes=12, levels=9):
    """Scores on a few levels only, so that most of them are tied; every class has positives and negatives."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_clips, num_classes)) < np.linspace(0.01, 0.6, num_classes)
    targets[0], targets[1] = True, False
    scores = np.round((rng.random(targets.shape) + 0.4 * targets) * levels) / levels
    return targets, scores


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
@pytest.mark.parametrize("levels", [1, 9, 10**9])
def test_every_class_equals_scikit_learn_ties_included(levels, dtype):
    targets, scores = tied_problem(seed=levels, levels=min(levels, 1000) if dtype != np.float64 else levels)
    scores = (scores * 1000).astype(dtype)
    found = compute_metrics(targets, scores)
    for k in range(targets.shape[1]):
        assert found.average_precision[k] == pytest.approx(
            average_precision_score(targets[:, k], scores[:, k]), abs=1e-12
        )
        assert found.auc[k] == pytest.approx(roc_auc_score(targets[:, k], scores[:, k]), abs=1e-12)
    assert found.map == pytest.approx(average_precision_score(targets, scores, average="macro"), abs=1e-12)
    assert found.mauc == pytest.approx(roc_auc_score(targets, scores, average="macro"), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_one_class_equals_scikit_learn(clips):
    targets = np.array([[positive] for positive, _ in clips])
    scores = np.array([[score / 3] for _, score in clips], np.float32)
    if targets.all() or not targets.any():
        with pytest.raises(ValueError, match="a positive and a negative clip"):
            compute_metrics(targets, scores)
        return
    found = compute_metrics(targets, scores)
    assert found.average_precision[0] == pytest.approx(average_precision_score(targets, scores), abs=1e-12)
    assert found.auc[0] == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


def test_d_prime_is_that_of_the_mean_auc():
    targets, scores = tied_problem(seed=3)
    found = compute_metrics(targets, scores)
    mean_of_class_d_primes = np.mean([d_prime(auc) for auc in found.auc])
    assert found.d_prime == d_prime(found.mauc)
    assert abs(found.d_prime - mean_of_class_d_primes) > 1e-3


# AUC and d-prime of one system in the published table, both rounded to three digits.
@pytest.mark.parametrize(("auc", "expected"), [(0.500, 0.0), (0.949, 2.316), (0.963, 2.529), (0.969, 2.641)])
def test_d_prime_agrees_with_the_published_pairs(auc, expected):
    assert d_prime(auc) == pytest.approx(expected, abs=0.012)


def test_classes_without_a_positive_or_a_negative_are_left_out_and_named():
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    found = compute_metrics(targets, np.array([[0.9, 0.3, 0.1], [0.2, 0.8, 0.7], [0.1, 0.1, 0.2]]))
    assert found.left_out == (1, 2)
    assert np.isnan(found.average_precision).tolist() == [False, True, False]
    assert np.isnan(found.auc).tolist() == [False, True, True]
    assert found.map == pytest.approx((5 / 6 + 1) / 2)
    assert found.mauc == pytest.approx(0.5)
    assert found.num_positives.tolist() == [2, 0, 3]


def test_scores_are_not_changed_and_layout_does_not_matter():
    targets, scores = tied_problem(seed=5)
    before = scores.copy()
    found = compute_metrics(targets, scores)
    again = compute_metrics(np.asfortranarray(targets).astype(np.float32), np.asfortranarray(scores))
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(found.auc, again.auc)
    np.testing.assert_array_equal(found.average_precision, again.average_precision)


def test_line_is_the_agreed_last_line():
    found = compute_metrics([[1], [0], [1], [0]], [[0.9], [0.5], [0.4], [0.1]])
    assert found.line() == "mAP 0.8333  mAUC 0.7500  d-prime 0.954"


def test_as_dict_is_strict_json():
    perfect = compute_metrics([[1, 0], [0, 0]], [[1.0, 0.0], [0.0, 0.5]])
    read = json.loads(json.dumps(perfect.as_dict(), allow_nan=False))
    assert read["map"] == 1.0
    assert read["d_prime"] is None
    assert math.isinf(perfect.d_prime)
    assert read["average_precision"] == [1.0, None]
    assert read["auc"] == [1.0, None]
    assert read["left_out"] == [1]
    assert read["num_positives"] == [1, 0]
    assert read["num_clips"] == 2


def test_class_report_is_a_csv_that_reads_back():
    targets, scores = tied_problem(seed=6)
    targets[:, 2] = False
    names = [f"Bell, no. {k}" for k in range(targets.shape[1])]
    found = compute_metrics(targets, scores)
    rows = list(csv.DictReader(io.StringIO(class_report(found, names))))
    assert [row["display_name"] for row in rows] == names
    assert float(rows[4]["auc"]) == pytest.approx(found.auc[4], abs=1e-6)
    assert rows[2]["average_precision"] == ""
    assert rows[2]["num_positives"] == "0"


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"shapes \(2, 3\) and \(3, 2\)"),
        (np.zeros(3), np.zeros(3), r"\(clips, classes\)"),
        (np.full((2, 2), 0.5), np.zeros((2, 2)), "`targets` must hold 0 and 1 only, received 0.5"),
        (np.eye(2), [[0.1, np.nan], [0.2, 0.3]], r"received nan for clip 0, class 1 \(Cat\)"),
        (np.eye(2), [[0.1, 0.2], [np.inf, 0.3]], r"received inf for clip 1, class 0 \(Dog\)"),
        (np.eye(2), [["a", "b"], ["c", "d"]], "`scores` must be real numbers"),
        (np.zeros((4, 2)), np.zeros((4, 2)), "4 clips, 2 classes and 0 positives"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "0 clips"),
        (np.eye(3), np.eye(3), "`labels` must name 3 classes, received 2"),
    ],
)
def test_bad_input_is_one_clear_line(targets, scores, message):
    with pytest.raises(ValueError, match=message) as error:
        compute_metrics(targets, scores, labels=["Dog", "Cat"])
    assert "\n" not in str(error.value)


def test_bad_labels_of_a_report_and_bad_auc():
    found = compute_metrics(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="`labels` must name 2 classes, received 1"):
        class_report(found, ["Dog"])
    with pytest.raises(ValueError, match="`auc` must be in"):
        d_prime(1.5)
