import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from kerastag.metrics import Metrics, compute_d_prime, compute_metrics, format_class_report
from kerastag.training.report import format_metrics_row


def make_tied_problem(seed, num_clips=400, num_classes=12, levels=9):
    """Return scores on a few levels, so that most are tied; every class has positives and negatives."""
    rng = np.random.default_rng(seed)
    y_true = rng.random((num_clips, num_classes)) < np.linspace(0.01, 0.6, num_classes)
    y_true[0], y_true[1] = True, False
    y_score = np.round((rng.random(y_true.shape) + 0.4 * y_true) * levels) / levels
    return y_true, y_score


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
@pytest.mark.parametrize("levels", [1, 9, 10**9])
def test_every_class_equals_scikit_learn_ties_included(levels, dtype):
    y_true, y_score = make_tied_problem(seed=levels, levels=min(levels, 1000) if dtype != np.float64 else levels)
    y_score = (y_score * 1000).astype(dtype)
    metrics = compute_metrics(y_true, y_score)
    expected = average_precision_score(y_true, y_score, average=None), roc_auc_score(y_true, y_score, average=None)
    np.testing.assert_allclose((metrics.average_precision, metrics.auc), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose((metrics.map, metrics.mauc), np.mean(expected, axis=1), rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_one_class_equals_scikit_learn(clips):
    y_true = np.array([[positive] for positive, _ in clips])
    y_score = np.array([[score / 3] for _, score in clips], np.float32)
    if y_true.all() or not y_true.any():
        with pytest.raises(ValueError, match="a positive and a negative clip"):
            compute_metrics(y_true, y_score)
        return
    metrics = compute_metrics(y_true, y_score)
    assert metrics.average_precision[0] == pytest.approx(average_precision_score(y_true, y_score), abs=1e-12)
    assert metrics.auc[0] == pytest.approx(roc_auc_score(y_true, y_score), abs=1e-12)


def test_d_prime_is_that_of_the_mean_auc():
    y_true, y_score = make_tied_problem(seed=3)
    metrics = compute_metrics(y_true, y_score)
    mean_of_class_d_primes = np.mean([compute_d_prime(auc) for auc in metrics.auc])
    assert metrics.d_prime == compute_d_prime(metrics.mauc)
    assert abs(metrics.d_prime - mean_of_class_d_primes) > 1e-3


# AUC and d-prime of one system in the published table, both rounded to three digits.
@pytest.mark.parametrize(("auc", "expected"), [(0.500, 0.0), (0.949, 2.316), (0.963, 2.529), (0.969, 2.641)])
def test_d_prime_agrees_with_the_published_pairs(auc, expected):
    assert compute_d_prime(auc) == pytest.approx(expected, abs=0.012)


def test_classes_without_a_positive_or_a_negative_are_skipped_and_listed():
    y_true = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    metrics = compute_metrics(y_true, np.array([[0.9, 0.3, 0.1], [0.2, 0.8, 0.7], [0.1, 0.1, 0.2]]))
    assert metrics.skipped_classes == (1, 2)
    assert np.isnan(metrics.average_precision).tolist() == [False, True, False]
    assert np.isnan(metrics.auc).tolist() == [False, True, True]
    assert metrics.map == pytest.approx((5 / 6 + 1) / 2)
    assert metrics.mauc == pytest.approx(0.5)
    assert metrics.num_positives.tolist() == [2, 0, 3]


def test_scores_are_not_changed_and_layout_does_not_matter():
    y_true, y_score = make_tied_problem(seed=5)
    before = y_score.copy()
    metrics = compute_metrics(y_true, y_score)
    again = compute_metrics(np.asfortranarray(y_true).astype(np.float32), np.asfortranarray(y_score))
    np.testing.assert_array_equal(y_score, before)
    np.testing.assert_array_equal(metrics.auc, again.auc)
    np.testing.assert_array_equal(metrics.average_precision, again.average_precision)


def test_a_d_prime_that_rounds_to_zero_has_no_sign():
    metrics = dataclasses.replace(compute_metrics([[1], [0]], [[0.5], [0.1]]), mauc=0.49999, d_prime=-0.00003)
    assert metrics.format_line() == "mAP 1.0000  mAUC 0.5000  d-prime 0.000"
    assert format_metrics_row("guess", metrics)[-1] == "0.000"


def test_the_line_has_map_mauc_and_d_prime():
    metrics = compute_metrics([[1], [0], [1], [0]], [[0.9], [0.5], [0.4], [0.1]])
    assert metrics.format_line() == "mAP 0.8333  mAUC 0.7500  d-prime 0.954"


def test_the_dictionary_is_strict_json():
    perfect = compute_metrics([[1, 0], [0, 0]], [[1.0, 0.0], [0.0, 0.5]])
    values = json.loads(json.dumps(perfect.as_dict(), allow_nan=False))
    assert values["map"] == 1.0
    assert values["d_prime"] is None
    assert math.isinf(perfect.d_prime)
    assert values["average_precision"] == [1.0, None]
    assert values["auc"] == [1.0, None]
    assert values["skipped_classes"] == [1]
    assert values["num_positives"] == [1, 0]
    assert values["num_clips"] == 2


def test_metrics_are_restored_from_their_dictionary():
    y_true, y_score = make_tied_problem(seed=7)
    y_true[:, 3] = False
    values = compute_metrics(y_true, y_score).as_dict()
    restored = Metrics.from_dict(json.loads(json.dumps(values)))
    assert restored.as_dict() == values
    assert restored.skipped_classes == (3,)
    assert np.isnan(restored.auc[3])


def test_dictionaries_of_earlier_versions_are_read():
    values = compute_metrics([[1, 0], [0, 0]], [[1.0, 0.0], [0.0, 0.5]]).as_dict()
    values["left_out"] = values.pop("skipped_classes")
    metrics = Metrics.from_dict(values)
    assert metrics.skipped_classes == (1,)
    assert metrics.d_prime == math.inf
    assert np.isnan(metrics.average_precision).tolist() == [False, True]


def test_a_dictionary_without_a_key_is_rejected():
    with pytest.raises(ValueError, match="`values` must have the key `mauc`; received: map"):
        Metrics.from_dict({"map": 0.5})


def test_the_class_report_is_valid_csv():
    y_true, y_score = make_tied_problem(seed=6)
    y_true[:, 2] = False
    names = [f"Bell, no. {k}" for k in range(y_true.shape[1])]
    metrics = compute_metrics(y_true, y_score)
    rows = list(csv.DictReader(io.StringIO(format_class_report(metrics, names))))
    assert [row["display_name"] for row in rows] == names
    assert float(rows[4]["auc"]) == pytest.approx(metrics.auc[4], abs=1e-6)
    assert rows[2]["average_precision"] == ""
    assert rows[2]["num_positives"] == "0"


@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"shapes \(2, 3\) and \(3, 2\)"),
        (np.zeros(3), np.zeros(3), r"must both be \(clips, classes\); received: shapes \(3,\) and \(3,\)"),
        (np.full((2, 2), 0.5), np.zeros((2, 2)), "`y_true` must hold 0 and 1 only; received: 0.5"),
        (
            np.eye(2),
            [[0.1, np.nan], [0.2, 0.3]],
            r"`y_score` must be finite; received: nan for clip 0, class 1 \(Cat\)",
        ),
        (
            np.eye(2),
            [[0.1, 0.2], [np.inf, 0.3]],
            r"`y_score` must be finite; received: inf for clip 1, class 0 \(Dog\)",
        ),
        (np.eye(2), [["a", "b"], ["c", "d"]], "`y_score` must be real numbers; received: dtype <U1"),
        (np.zeros((4, 2)), np.zeros((4, 2)), "4 clips, 2 classes and 0 positives"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "0 clips"),
        (np.eye(3), np.eye(3), "`class_names` must name 3 classes; received: 2"),
    ],
)
def test_invalid_arrays_are_rejected_in_one_line(y_true, y_score, message):
    with pytest.raises(ValueError, match=message) as error:
        compute_metrics(y_true, y_score, class_names=["Dog", "Cat"])
    assert "\n" not in str(error.value)


def test_class_names_of_another_length_and_areas_out_of_range_are_rejected():
    metrics = compute_metrics(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="`class_names` must name 2 classes; received: 1"):
        format_class_report(metrics, ["Dog"])
    with pytest.raises(ValueError, match=r"`auc` must be in \[0, 1\]; received: 1.5"):
        compute_d_prime(1.5)
