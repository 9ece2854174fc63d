"""Progress of archives: sums, the time that is left, and lines for machines."""

import json

import pytest
from archive import conftest  # noqa: F401 - skips without pyarrow

from kerastag.archive.analysis import RecordingAnalyzer
from kerastag.archive.progress import Progress, ProgressDisplay
from kerastag.archive.settings import ArchiveSettings
from kerastag.tagger import Tagger


def test_the_time_left_follows_from_the_bytes():
    progress = Progress(4, 1_000)
    assert progress.as_dict()["seconds_left"] is None
    progress.add(0, 0, 90.0, 0)
    progress.add(1, 250, -30.0, 1)
    values = progress.as_dict()
    assert (values["files"], values["failures"], values["share"]) == (1, 1, 0.25)
    assert values["audio_hours"] == pytest.approx(60 / 3600, abs=1e-4)
    assert values["seconds_left"] == pytest.approx(3 * values["elapsed_seconds"], abs=0.5)
    assert "1 of 4 files, 0.0 h" in str(progress)


def test_lines_for_machines_end_with_the_sums(capsys):
    progress = Progress(1, 10)
    display = ProgressDisplay(progress, as_json=True)
    display.update()
    progress.add(1, 10, 36.0, 0)
    display.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["audio_hours"] == 0.01


def test_a_long_recording_reports_its_progress_and_its_rows_in_parts():
    import numpy as np

    tagger = Tagger.load("esc10")
    analyzer = RecordingAnalyzer(tagger, ArchiveSettings(top=1))
    rate, parts = tagger.card.sample_rate, []
    blocks = (np.zeros(10 * rate, np.float32) for _ in range(120))
    summary = analyzer.analyze(lambda: blocks, lambda columns, seconds: parts.append((columns, seconds)))
    assert len(parts) > 1
    seconds = [position for _, position in parts]
    assert seconds == sorted(seconds)
    assert seconds[-1] == summary["duration_seconds"] == 1_200
    assert sum(len(columns["tags"]["class"]) for columns, _ in parts if columns) == summary["num_tags"]
    assert summary["is_silent"]
