"""Tests of the average precision of bootstrap samples."""

import numpy as np
import pytest

from kerastag.metrics import bootstrap_average_precision, compute_metrics, draw_bootstrap_counts


def make_scores(num_clips=60, num_classes=3, levels=None):
    random = np.random.default_rng(0)
    targets = random.random((num_clips, num_classes)) < 0.3
    scores = random.standard_normal(targets.shape) + targets
    return targets, scores if levels is None else np.round(scores * levels) / levels


@pytest.mark.parametrize("levels", [None, 2])
def test_each_sample_has_the_average_precision_of_its_repeated_clips(levels):
    targets, scores = make_scores(levels=levels)
    counts = draw_bootstrap_counts(len(targets), 150, np.random.default_rng(1))
    average_precision = bootstrap_average_precision(targets, scores, counts)
    assert average_precision.shape == (150, 3)
    for sample in (0, 127, 128, 149):
        clips = np.repeat(np.arange(len(targets)), counts[:, sample].astype(int))
        expected = compute_metrics(targets[clips], scores[clips]).average_precision
        np.testing.assert_allclose(average_precision[sample], expected, atol=1e-6)


def test_a_sample_without_a_positive_clip_has_none():
    average_precision = bootstrap_average_precision([[1, 0], [0, 0]], [[0.5, 0.1], [0.2, 0.3]], [[0, 1], [2, 1]])
    np.testing.assert_array_equal(average_precision, [[np.nan, np.nan], [1.0, np.nan]])


def test_counts_are_those_of_samples_with_replacement():
    counts = draw_bootstrap_counts(1000, 5, np.random.default_rng(0))
    assert counts.sum(axis=0).tolist() == [1000] * 5
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_counts_of_other_clips_are_refused():
    with pytest.raises(ValueError, match=r"`counts` must be \(2, samples\); received: shape \(3, 1\)"):
        bootstrap_average_precision([[1], [0]], [[0.5], [0.1]], [[1], [1], [1]])
