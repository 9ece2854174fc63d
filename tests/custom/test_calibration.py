"""Calibration: probabilities become shares of clips, in the order that they had."""

import numpy as np
import pytest

from kerastag.custom.calibration import (
    compute_calibration_error,
    cross_fit_calibration,
    fit_calibration,
    raise_thresholds,
)

RANDOM = np.random.default_rng(0)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.fixture(scope="module")
def predictions():
    """Labels and overconfident predictions of 3,000 clips: the true logits are half of the predicted ones, minus 1."""
    logits = RANDOM.normal(0, 3, (3000, 2))
    return RANDOM.random(logits.shape) < sigmoid(0.5 * logits - 1), sigmoid(logits).astype(np.float32)


def test_the_slope_and_the_offset_of_overconfident_predictions_are_estimated(predictions):
    calibration = fit_calibration(*predictions)
    np.testing.assert_allclose(calibration.slopes, 0.5, atol=0.05)
    np.testing.assert_allclose(calibration.offsets, -1, atol=0.15)


def test_calibration_reduces_the_error_on_clips_that_it_was_not_fitted_to(predictions):
    y_true, y_score = predictions
    calibrated = fit_calibration(y_true[:1500], y_score[:1500]).apply(y_score[1500:])
    assert compute_calibration_error(y_true[1500:], y_score[1500:]) > 0.15
    assert compute_calibration_error(y_true[1500:], calibrated) < 0.04
    cross_fitted = cross_fit_calibration(y_true, y_score, np.arange(len(y_true)) % 3)
    assert compute_calibration_error(y_true, cross_fitted) < 0.03


def test_a_fold_is_calibrated_by_the_other_folds(predictions):
    y_true, y_score = predictions
    folds = np.arange(len(y_true)) % 3
    expected = fit_calibration(y_true[folds != 1], y_score[folds != 1]).apply(y_score[folds == 1])
    np.testing.assert_array_equal(cross_fit_calibration(y_true, y_score, folds)[folds == 1], expected)


@pytest.mark.parametrize("num_clips", [2, 5, 40])
def test_few_clips_without_an_error_do_not_make_a_tagger_certain(num_clips):
    y_true = np.arange(2 * num_clips)[:, None] < num_clips
    calibration = fit_calibration(y_true, np.where(y_true, 0.999, 0.001))
    assert 0.2 < calibration.slopes[0] < 3
    assert 0.7 < calibration.apply(np.array([0.999]))[0] < 0.9999


def test_the_order_of_clips_never_changes():
    y_true = np.arange(20)[:, None] < 10
    y_score = np.linspace(0.01, 0.99, 20)[:, None]  # worse than random
    calibration = fit_calibration(y_true, y_score)
    assert calibration.slopes[0] > 0
    assert (np.diff(calibration.apply(y_score)[:, 0]) > 0).all()


def test_a_class_without_positive_or_without_negative_clips_is_unchanged():
    y_true = np.array([[True, False]] * 6)
    y_score = RANDOM.random((6, 2))
    np.testing.assert_allclose(fit_calibration(y_true, y_score).apply(y_score), y_score, atol=1e-6)


def test_certain_predictions_stay_finite():
    y_true = np.array([[True], [False]] * 4)
    calibrated = fit_calibration(y_true, y_true.astype(np.float32)).apply(y_true.astype(np.float32))
    assert ((calibrated > 0) & (calibrated < 1)).all()


def test_the_calibration_error_is_the_mean_distance_over_bins_and_classes():
    y_true = np.array([[True, False], [False, False], [True, True], [True, False]])
    y_score = np.array([[0.1, 0.5], [0.1, 0.5], [0.9, 0.5], [0.9, 0.5]])
    first = (2 * abs(0.1 - 0.5) + 2 * abs(0.9 - 1.0)) / 4
    second = abs(0.5 - 0.25)
    assert compute_calibration_error(y_true, y_score, num_bins=2) == pytest.approx((first + second) / 2)
    assert compute_calibration_error(y_true[:2], y_score[:2]) == pytest.approx(0.4)  # the second class has no clip


@pytest.fixture(scope="module")
def separable():
    """Labels and probabilities of 200 clips of two classes, which are far apart, but for one clip of the first."""
    y_true = np.eye(2, dtype=bool)[np.arange(200) % 2]
    y_score = np.where(y_true, 0.9, 0.05)
    y_score[0, 0] = 0.2
    return y_true, y_score


def test_one_clip_that_is_unlike_its_class_does_not_keep_the_threshold_low(separable):
    raised = raise_thresholds(*separable, np.array([0.1, 0.4]))
    np.testing.assert_allclose(raised, 0.9)


def test_thresholds_rise_no_further_than_the_share_that_may_be_lost(separable):
    y_true, y_score = separable
    y_score = y_score.copy()
    y_score[:20] = np.where(y_true[:20], np.linspace(0.5, 0.7, 20)[:, None], 0.05)
    lost = (y_true & (y_score < raise_thresholds(y_true, y_score, np.array([0.1, 0.4])))).sum()
    assert lost == 3  # (3 + 1) / 201 is at most 0.02, (4 + 1) / 201 is not
    assert (raise_thresholds(y_true, y_score, np.array([0.1, 0.4]), 0.0) == [0.1, 0.4]).all()


def test_few_clips_do_not_raise_a_threshold_and_no_threshold_falls(separable):
    y_true, y_score = separable
    few = raise_thresholds(y_true[:40], y_score[:40], np.array([0.1, 0.4]))
    assert few.tolist() == [0.1, 0.4]
    assert raise_thresholds(y_true, y_score, np.array([0.1, 0.97]))[1] == 0.97
