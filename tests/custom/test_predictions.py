"""The predictions that a run saves for its report, and `predictions.csv`."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kerastag.custom.clips import Clips
from kerastag.custom.look_alikes import find_neighbors
from kerastag.custom.predictions import RunPredictions, find_peaks
from kerastag.data.audio_lists import Recording

NAMES = ("bark, loud", 'the "rain"')


@pytest.fixture
def predictions():
    audio = (
        Recording(Path("/sounds/a.wav"), "a.wav", (0,)),
        Recording(Path("/sounds/b\udcff\n.wav"), "b\udcff\n.wav", (0, 1), start_seconds=2.5, end_seconds=4.0),
        np.zeros(8, np.float32),  # always trained on
        np.zeros(8, np.float32),
    )
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    clips = Clips("sounds", (), NAMES, audio, targets, np.array([0, 1, -1, 0]), np.ones_like(targets))
    probabilities = np.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.1]], [[0.7, 0.1], [0.4, 0.4], [0.1, 0.1]]])
    neighbors = find_neighbors(np.eye(3), targets[clips.recordings])
    return RunPredictions.collect(clips, probabilities, np.array([[0.0, 1], [2, 3], [np.nan] * 2]), neighbors)


def test_predictions_are_saved_and_read(predictions, tmp_path):
    predictions.save(tmp_path / "report.npz")
    restored = RunPredictions.read(tmp_path / "report.npz")
    for name, value in vars(predictions).items():
        if name == "neighbors":
            for key, array in vars(value).items():
                np.testing.assert_array_equal(getattr(restored.neighbors, key), array)
        else:
            np.testing.assert_array_equal(getattr(restored, name), value)
    assert restored.paths.tolist() == ["/sounds/a.wav", "/sounds/b\udcff\n.wav", ""]
    assert restored.folds.tolist() == [0, 1, 0]
    np.testing.assert_allclose(restored.mean_probabilities, [[0.8, 0.1], [0.6, 0.3], [0.2, 0.1]], rtol=1e-6)


def test_the_table_has_a_row_for_each_recording(predictions, tmp_path):
    predictions.save_table(tmp_path / "predictions.csv", NAMES)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "start_seconds", "end_seconds", "fold", "labels", *NAMES]
    assert rows == [
        ["a.wav", "0", "", "1", "bark, loud", "0.8000", "0.1000"],
        ["b\N{REPLACEMENT CHARACTER}\n.wav", "2.5", "4", "2", 'bark, loud;the "rain"', "0.6000", "0.3000"],
        ["synthetic background 3", "0", "", "1", "", "0.2000", "0.1000"],
    ]


def test_a_damaged_file_is_named(predictions, tmp_path):
    path = tmp_path / "report.npz"
    with pytest.raises(FileNotFoundError, match="report.npz: no such file"):
        RunPredictions.read(path)
    predictions.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="report.npz: not a complete .npz file"):
        RunPredictions.read(path)
    np.savez(path, paths=np.array(["a"]))
    with pytest.raises(ValueError, match="report.npz: must have the array `names`; received: paths"):
        RunPredictions.read(path)


def test_arrays_of_different_lengths_are_refused(predictions, tmp_path):
    path = tmp_path / "report.npz"
    predictions.save(path)
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "folds": arrays["folds"][:2]})
    with pytest.raises(ValueError, match="`folds` must have 3 recordings; received: 2"):
        RunPredictions.read(path)


def test_peaks_are_the_starts_of_the_most_probable_segments():
    framewise = np.array([[[0.1, 0.9], [0.8, 0.2], [0.9, 0.95]], [[0.1, 0.1], [0.2, 0.1], [0.3, 0.7]]])
    peaks = find_peaks(framewise, np.array([2, 3]), 0.5, np.array([True, False]))
    np.testing.assert_array_equal(peaks, [[0.5, 0], [np.nan, np.nan]])
