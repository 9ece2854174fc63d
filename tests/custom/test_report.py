"""Thresholds, confusions and tables of a run."""

import csv

import numpy as np
import pytest

from kerastag.custom import CustomConfig
from kerastag.custom.clips import Clips
from kerastag.custom.report import count_confusions, find_most_confused, save_results, select_thresholds
from kerastag.training.run_folder import RunFolder

TARGETS = np.eye(3, dtype=bool)[[0, 0, 1, 1, 2, 2]]
SCORES = np.array([[0.9, 0.2, 0], [0.8, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.6, 0], [0, 0.1, 0.4], [0, 0, 0.3]])


def test_thresholds_have_the_best_f1():
    assert select_thresholds(TARGETS, SCORES) == pytest.approx((0.75, 0.25, 0.15), abs=0.011)


def test_confusions_are_counted_and_described():
    counts = count_confusions(TARGETS, SCORES)
    assert counts.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert find_most_confused(counts, ["a", "b", "c"]) == ["b predicted as a: 1 of 2"]


def test_a_clip_with_several_labels_is_right_if_one_of_them_is_predicted():
    targets = np.array([[True, True, False]])
    assert count_confusions(targets, np.array([[0.1, 0.9, 0.2]])).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert count_confusions(targets, np.array([[0.1, 0.2, 0.9]])).tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_class_names_with_commas_are_quoted(tmp_path):
    names = ("bark, loud", 'the "rain"')
    clips = Clips("sounds", (), names, (None,) * 4, np.eye(2, dtype=bool)[[0, 1, 0, 1]], np.zeros(4, int))
    config = CustomConfig(audio_dir="sounds", folds=0)
    folder = RunFolder.create(tmp_path / "run", "custom", config)
    probabilities = np.array([[[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]])
    results = {"kinds": ["frames"], "folds": [], "logistic": [], "errors": [], "embedding_seconds": 0, "seconds": 0}
    save_results(folder, config, clips, probabilities, (0.5, 0.5), results)
    with (tmp_path / "run/confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["", *names], [names[0], "1", "1"], [names[1], "0", "2"]]
    with (tmp_path / "run/classes.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["class", *names]
