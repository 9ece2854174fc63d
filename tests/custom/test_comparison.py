"""Runs are compared class by class, and what may be wrong with a run is said in one line each."""

import json

import numpy as np
import pytest
from custom.saved_runs import draw_predictions, save_run

from kerastag.custom.comparison import compare_runs
from kerastag.custom.concerns import list_concerns
from kerastag.training.run_folder import RunFolder

NAMES = ("Bark", "Cough", "Rain")


def make_targets(*counts):
    return np.eye(len(counts), dtype=bool)[np.repeat(np.arange(len(counts)), counts)]


def add_metrics(folder, **values):
    """Add values to the metrics of a run."""
    path = folder.path / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def make_alarms(name, per_day, low=0.0, num_found=9):
    return {
        "name": name,
        "per_day": per_day,
        "per_day_interval": [low, 3 * per_day + 1],
        "num_found": num_found,
        "num_events": 10,
        "is_shown": True,
        "hours": 0.5,
    }


@pytest.fixture
def first(tmp_path):
    targets = make_targets(12, 4)
    return save_run(tmp_path / "first", NAMES[:2], targets, draw_predictions(targets))


@pytest.fixture
def second(tmp_path):
    targets = make_targets(12, 14, 10)
    return save_run(tmp_path / "second", NAMES, targets, draw_predictions(targets, seed=1))


def test_a_comparison_has_every_class_before_and_after(first, second):
    add_metrics(first, alarms=[make_alarms("Bark", 2.0), make_alarms("Cough", 1.5)], logistic=[0.5] * 3)
    add_metrics(second, alarms=[make_alarms("Bark", 0.5)], logistic=[0.5] * 3, folds=[[0.9, 0.9, 0.96]])
    text = compare_runs(first, second)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "12 to 12 (+0)" in rows["Bark"]
    assert "2.0 to 0.5 (-1.5)" in rows["Bark"]
    assert "4 to 14 (+10)" in rows["Cough"]
    assert "1.5 to -" in rows["Cough"]
    assert "- to 10" in rows["Rain"]
    assert "16 to 36 (+20)" in rows["all"]
    assert "3.5 to 0.5 (-3.0)" in rows["all"]
    assert text.splitlines()[-1] == "accuracy, mean of the folds: 0.9000 to 0.9200 (+0.0200)"


def test_a_run_that_is_not_finished_is_not_compared(first, second):
    (first.path / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"first: not a finished run"):
        compare_runs(first, second)


def test_a_good_run_is_no_concern(tmp_path):
    targets = make_targets(12, 14, 10)
    folder = save_run(tmp_path / "run", NAMES, targets, draw_predictions(targets, sharpness=20.0))
    assert list_concerns(folder) == []


def test_each_concern_is_one_line(tmp_path):
    targets = make_targets(12, 4, 12)
    probabilities = draw_predictions(targets, sharpness=20.0)
    probabilities[0, :11] = probabilities[0, :11, ::-1]
    folder = save_run(tmp_path / "run", NAMES, targets, probabilities, errors=["a.wav: not audio"])
    alarms = [make_alarms("Bark", 5.0, low=2.0), make_alarms("Cough", 0.5, num_found=3)]
    add_metrics(folder, alarms=alarms, operating_point={"false_alarms_per_day": 1.0}, missing=["b.wav"])
    concerns = list_concerns(RunFolder.open(folder.path))
    assert concerns[:2] == [
        "1 recordings could not be read, and were left out",
        "1 recordings of the list do not exist, the first is b.wav",
    ]
    assert "Cough has 4 recordings: add some until it has at least 10" in concerns
    assert any(line.startswith("Bark is often confused: average precision 0.") for line in concerns)
    assert any("give hours of your own background with --ambient" in line for line in concerns)
    assert "Bark had 5.0 false alarms per day, more than 1" in concerns
    assert "Cough was detected in 30% of the simulated events" in concerns
    assert any("may have a wrong label: see the report, or kerastag review " in line for line in concerns)


def test_without_a_cross_validation_the_figures_are_a_concern(tmp_path):
    targets = make_targets(12, 14)
    folder = save_run(tmp_path / "run", NAMES[:2], targets, draw_predictions(targets, sharpness=20.0), folds=0)
    assert list_concerns(folder)[0].startswith("there was no cross-validation")
