"""The examples run, each in a process of its own, as a reader runs them."""

import os
import subprocess
import sys

import pytest
from custom.small_runs import backbone

from checks import ROOT

__all__ = ["backbone"]

pytestmark = pytest.mark.slow


def run_example(name, folder, *arguments):
    """Run an example in a folder, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_example_has_a_test_here_and_cells():
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {"learn_your_own_sounds.py", "new_pooling_layer.py", "tag_a_recording.py"}
    for name in names:
        assert (ROOT / "examples" / name).read_text(encoding="utf-8").count("\n# %% ") >= 3


def test_a_recording_is_tagged_and_its_events_have_a_pause(tmp_path):
    lines = run_example("tag_a_recording.py", tmp_path).splitlines()
    assert lines[0].endswith(" Rain")
    events = [line for line in lines if line.startswith("Rain: ")]
    assert len(events) >= 2
    assert any(line.startswith("  4 s 0.0") for line in lines)


def test_a_tagger_of_synthetic_sounds_recognizes_the_class_of_a_recording(tmp_path, backbone):
    lines = run_example("learn_your_own_sounds.py", tmp_path, "my_sounds", backbone).splitlines()
    assert lines[-3].endswith(" bursts")


def test_a_new_pooling_layer_is_tested_and_trained(tmp_path):
    lines = run_example("new_pooling_layer.py", tmp_path, "--steps", "100", "--run-dir", "run").splitlines()
    assert float(lines[-1].split()[1].rstrip(",")) > 0.2
    assert (tmp_path / "run/model.keras").is_file()
