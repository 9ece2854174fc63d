"""Thresholds and tables of a run, and its evaluation from its files."""

import csv
import json
import shutil

import numpy as np
import pytest

from kerastag.__main__ import main
from kerastag.custom import CustomConfig, evaluate_custom_run
from kerastag.custom.clips import Clips
from kerastag.custom.report import save_results, select_thresholds
from kerastag.metrics import Metrics
from kerastag.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("cache_folder")

TARGETS = np.eye(3, dtype=bool)[[0, 0, 1, 1, 2, 2]]
SCORES = np.array([[0.9, 0.2, 0], [0.8, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.6, 0], [0, 0.1, 0.4], [0, 0, 0.3]])


def test_thresholds_have_the_best_f1():
    assert select_thresholds(TARGETS, SCORES) == pytest.approx((0.75, 0.25, 0.15), abs=0.011)


def test_class_names_with_commas_are_quoted(tmp_path):
    names = ("bark, loud", 'the "rain"')
    targets = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
    clips = Clips("sounds", (), names, (None,) * 4, targets, np.zeros(4, int), np.ones_like(targets))
    config = CustomConfig(audio_dir="sounds", folds=0)
    folder = RunFolder.create(tmp_path / "run", "custom", config)
    probabilities = np.array([[[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]])
    results = {
        "kinds": ["frames"],
        "folds": [],
        "logistic": [],
        "errors": [],
        "num_long": 0,
        "embedding_seconds": 0,
        "seconds": 0,
    }
    save_results(folder, config, clips, probabilities, (0.5, 0.5), results)
    with (tmp_path / "run/confusion.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["", *names], [names[0], "1", "1"], [names[1], "0", "2"]]
    with (tmp_path / "run/classes.csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["class", *names]


def test_evaluate_shows_the_metrics_of_the_tagger_and_of_the_cross_validation(finished_run, capsys):
    folder, _ = finished_run
    assert main(["evaluate", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 27 clips, 3 classes | mAP | mAUC | d-prime |"
    assert lines[2].startswith("| model.keras, on the clips that it was trained on |")
    saved = Metrics.from_dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"])
    assert lines[3].startswith(f"| cross-validation, at the end of the run | {saved.map:.4f} | {saved.mauc:.4f} |")
    assert any("model.keras was trained on these clips" in line for line in lines)
    assert lines[-2] == f"run folder: {folder}"
    assert lines[-1].startswith("mAP ")
    assert main(["evaluate", str(folder), "--eval-pack", "eval"]) == 1
    assert "`--eval-pack` must not be given for a run of `kerastag custom`, which has folds" in capsys.readouterr().err


@pytest.fixture
def copied_run(finished_run, tmp_path):
    return shutil.copytree(finished_run[0], tmp_path / "run")


def test_a_run_of_the_format_before_version_0_1_is_evaluated(copied_run, capsys):
    config = json.loads((copied_run / "config.json").read_text(encoding="utf-8"))
    (copied_run / "config.json").unlink()
    del config["format"]
    (copied_run / "settings.json").write_text(json.dumps({**config, "background": "made_up"}), encoding="utf-8")
    metrics = json.loads((copied_run / "metrics.json").read_text(encoding="utf-8"))
    metrics["figures"] = metrics.pop("metrics")
    (copied_run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (copied_run / "report.html").touch()
    assert evaluate_custom_run(copied_run).map > 0.8
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("mAP ")
    assert f"report: {copied_run / 'report.html'}" in lines


def test_an_unfinished_run_is_refused(copied_run):
    (copied_run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        evaluate_custom_run(copied_run)


def test_recordings_of_other_classes_are_refused(copied_run, recordings, tmp_path):
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    (folder / "hums").rename(folder / "whistles")
    config = json.loads((copied_run / "config.json").read_text(encoding="utf-8"))
    (copied_run / "config.json").write_text(json.dumps({**config, "audio_dir": str(folder)}), encoding="utf-8")
    with pytest.raises(ValueError, match="must have the classes of .*received: bursts, clicks, whistles"):
        evaluate_custom_run(copied_run)
