"""Confusions are counted and described."""

import numpy as np

from kerastag.custom.confusions import count_confusions, find_most_confused

TARGETS = np.eye(3, dtype=bool)[[0, 0, 1, 1, 2, 2]]
SCORES = np.array([[0.9, 0.2, 0], [0.8, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.6, 0], [0, 0.1, 0.4], [0, 0, 0.3]])


def test_confusions_are_counted_and_described():
    counts = count_confusions(TARGETS, SCORES)
    assert counts.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert find_most_confused(counts, ["a", "b", "c"]) == ["b predicted as a: 1 of 2"]


def test_a_clip_with_several_labels_is_right_if_one_of_them_is_predicted():
    targets = np.array([[True, True, False]])
    assert count_confusions(targets, np.array([[0.1, 0.9, 0.2]])).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert count_confusions(targets, np.array([[0.1, 0.2, 0.9]])).tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
