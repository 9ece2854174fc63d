"""Finished runs of custom taggers are evaluated again from their files."""

import json
import shutil

import pytest

from kerastag.__main__ import main
from kerastag.custom import evaluate_custom_run
from kerastag.metrics import Metrics

pytestmark = pytest.mark.usefixtures("cache_folder")


def test_evaluate_shows_the_metrics_of_the_tagger_and_of_the_cross_validation(finished_run, capsys):
    folder, _ = finished_run
    assert main(["evaluate", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 27 clips, 3 classes | mAP | mAUC | d-prime |"
    assert lines[2].startswith("| model.keras, on the clips that it was trained on |")
    saved = Metrics.from_dict(json.loads((folder / "metrics.json").read_text())["metrics"])
    assert lines[3].startswith(f"| cross-validation, at the end of the run | {saved.map:.4f} | {saved.mauc:.4f} |")
    assert any("model.keras was trained on these clips" in line for line in lines)
    assert lines[-2] == f"run folder: {folder}"
    assert lines[-1].startswith("mAP ")


@pytest.fixture
def copied_run(finished_run, tmp_path):
    return shutil.copytree(finished_run[0], tmp_path / "run")


def test_a_run_of_the_format_before_version_0_1_is_evaluated(copied_run, capsys):
    config = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").unlink()
    del config["format"]
    (copied_run / "settings.json").write_text(json.dumps({**config, "background": "made_up"}))
    metrics = json.loads((copied_run / "metrics.json").read_text())
    metrics["figures"] = metrics.pop("metrics")
    (copied_run / "metrics.json").write_text(json.dumps(metrics))
    assert evaluate_custom_run(copied_run).map > 0.8
    assert capsys.readouterr().out.splitlines()[-1].startswith("mAP ")


def test_an_unfinished_run_is_refused(copied_run):
    (copied_run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        evaluate_custom_run(copied_run)


def test_recordings_of_other_classes_are_refused(copied_run, recordings, tmp_path):
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    (folder / "hums").rename(folder / "whistles")
    config = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").write_text(json.dumps({**config, "audio_dir": str(folder)}))
    with pytest.raises(ValueError, match="must have the classes of .*received: bursts, clicks, whistles"):
        evaluate_custom_run(copied_run)
