"""Archives: the rows, their bytes, later runs, signals and the command."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from archive.conftest import RATE, read_digests, read_rows, write_recordings

from checks import ROOT
from kerastag.archive import ArchiveSettings, write_archive
from kerastag.bundled import resolve_model_path
from kerastag.card import Card, write_card
from kerastag.cli import main
from kerastag.events import EventRules, find_events
from kerastag.files import read_json
from kerastag.locks import hold_lock
from kerastag.tagger import Tagger

SETTINGS = ArchiveSettings(threshold=0.3, events=True, embeddings=True, smoothing_seconds=0.9, max_gap_seconds=0.5)


def test_rows_are_what_the_tagger_predicts(recordings, tmp_path):
    report = write_archive([recordings], "out", "esc10", SETTINGS, jobs=1, shard_files=4)
    assert report["is_complete"]
    assert report["files"] == 11
    tagger = Tagger.load("esc10")
    windows = list(tagger.predict_windows("recordings/below/long.flac", "clipwise", "embedding"))
    assert len(windows) > 1
    tags = [row for row in read_rows(tmp_path / "out", "tags") if row["file"] == "recordings/below/long.flac"]
    expected = [
        (window.start_seconds, window.end_seconds, tag.name, tag.mid, tag.probability)
        for window, outputs in windows
        for tag in tagger.select_tags(outputs["clipwise"], 10, 0.3)
    ]
    assert expected
    assert [tuple(row.values())[1:] for row in tags] == expected
    embeddings = [row for row in read_rows(tmp_path / "out", "embeddings") if row["file"].endswith("long.flac")]
    np.testing.assert_array_equal(
        np.array([row["embedding"] for row in embeddings], np.float32), [each["embedding"] for _, each in windows]
    )
    timeline = tagger.predict_timeline("recordings/below/long.flac")
    events = find_events(
        timeline.probabilities, timeline.seconds[1], EventRules(0.3, smoothing_seconds=0.9, max_gap_seconds=0.5)
    )
    rows = [row for row in read_rows(tmp_path / "out", "events") if row["file"].endswith("long.flac")]
    assert [row["class"] for row in rows] == [tagger.labels.names[event.class_index] for event in events]
    np.testing.assert_allclose([row["onset_seconds"] for row in rows], [event.onset_seconds for event in events])
    assert rows


def test_the_plan_has_the_rules_of_the_card_where_the_user_chooses_none():
    settings = ArchiveSettings(min_seconds=0.5).with_card_rules({"min_seconds": 2.0, "smoothing_seconds": 3.0})
    assert settings == ArchiveSettings(
        smoothing_seconds=3.0, min_seconds=0.5, max_gap_seconds=0.0, refractory_seconds=0.0
    )
    assert ArchiveSettings().with_card_rules({"min_seconds": (2.0, 1.0)}).min_seconds is None


def test_the_bytes_depend_on_neither_workers_nor_parts_nor_interruptions(recordings, tmp_path):
    write_archive([recordings], "one", "esc10", SETTINGS, jobs=1, shard_files=3)
    write_archive([recordings], "four", "esc10", SETTINGS, jobs=4, shard_files=3)
    write_archive([recordings], "parts", "esc10", SETTINGS, plan_only=True, shard_files=3)
    for index in (2, 1):
        report = write_archive([recordings], "parts", "esc10", SETTINGS, jobs=1, shard=f"{index}/2")
        assert report["is_complete"] == (index == 1)
        assert (tmp_path / "parts" / "report.md").read_text(encoding="utf-8").count("not complete") == (index == 2)
    one = read_digests(tmp_path / "one")
    assert len(one) == 4 * 6 + 1
    assert one == read_digests(tmp_path / "four") == read_digests(tmp_path / "parts")
    # A run that was killed while it wrote the second shard.
    (tmp_path / "one" / "shards" / "part-000001.json").unlink()
    (tmp_path / "one" / "tags" / "part-000001.parquet").write_bytes(b"torn")
    # And what a lost machine left for the third: its process has the number of one that runs here.
    stale = [tmp_path / "one" / name for name in (".999999999-files.part-000001", ".1-files.part-000002")]
    for path in stale:
        path.mkdir()
    write_archive([recordings], "one", "esc10", SETTINGS, jobs=1)
    assert read_digests(tmp_path / "one") == read_digests(tmp_path / "four")
    assert not any(path.exists() for path in stale)


def test_added_files_get_new_shards_and_changed_ones_are_updated_on_request(recordings, tmp_path, capsys):
    write_archive([recordings], "out", "esc10", jobs=1, shard_files=6)
    before = read_digests(tmp_path / "out")
    soundfile.write(tmp_path / "recordings" / "0000a.wav", np.zeros(RATE), RATE)
    assert write_archive([recordings], "out", "esc10", jobs=1)["finished_files"] == 12
    extended = read_digests(tmp_path / "out")
    assert before.items() <= extended.items()
    soundfile.write(tmp_path / "recordings" / "0001.wav", np.zeros(4 * RATE), RATE)
    (tmp_path / "recordings" / "0002.wav").unlink()
    write_archive([recordings], "out", "esc10", jobs=1)
    assert (
        "1 files were changed and 1 removed since the first run, such as recordings/0001.wav" in capsys.readouterr().err
    )
    assert read_digests(tmp_path / "out") == extended
    assert write_archive([recordings], "out", "esc10", jobs=1, update=True)["finished_files"] == 11
    durations = {row["file"]: row["duration_seconds"] for row in read_rows(tmp_path / "out", "files")}
    assert durations["recordings/0001.wav"] == 4.0
    assert "recordings/0002.wav" not in durations


def test_another_model_or_setting_is_refused_by_name(recordings, tmp_path):
    write_archive([recordings], "out", "esc10", ArchiveSettings(top=2), plan_only=True)
    with pytest.raises(ValueError, match="out: `top` must be 2, as in its first run; received: 3; use another output"):
        write_archive([recordings], "out", "esc10", ArchiveSettings(top=3))
    model = tmp_path / "other.tflite"
    model.write_bytes(resolve_model_path("esc10").read_bytes())
    card = Card.read(model)
    write_card(model, Card(**{**vars(card), "origin": "another"}))
    with pytest.raises(ValueError, match="out: `model` must be '"):
        write_archive([recordings], "out", model, ArchiveSettings(top=2))


def test_settings_that_the_model_lacks_leave_no_plan(recordings, tmp_path):
    with pytest.raises(ValueError, match="Trombone"):
        write_archive([recordings], "out", "esc10", ArchiveSettings(classes=("Trombone",)))
    assert not (tmp_path / "out" / "plan.json").exists()
    with pytest.raises(FileNotFoundError, match="run the same command with --plan-only first"):
        write_archive([recordings], "out", "esc10", shard="1/2")
    with pytest.raises(ValueError, match="`shard` must be I/N with I from 1 to N; received: '3/2'"):
        write_archive([recordings], "out", "esc10", shard="3/2")


def test_another_run_and_a_folder_of_other_files_are_refused(recordings, tmp_path):
    with pytest.raises(ValueError, match="recordings: must be an archive or an empty folder; received: other files"):
        write_archive([recordings], "recordings", "esc10")
    with hold_lock(tmp_path / "out" / "archive"), pytest.raises(BlockingIOError, match="is being written by process"):
        write_archive([recordings], "out", "esc10")


def test_nothing_detected_has_a_reason(recordings, tmp_path):
    report = write_archive([recordings], "out", "esc10", ArchiveSettings(threshold=0.99), jobs=1)
    rows = {row["file"]: row for row in read_rows(tmp_path / "out", "files")}
    assert rows["recordings/below/silence.flac"]["empty_reason"] == "silence"
    assert rows["recordings/low.wav"]["empty_reason"] == "sample_rate"
    assert report["empty"]["silence"] == 1
    assert sum(report["empty"].values()) == sum(row["num_tags"] == 0 for row in rows.values())
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| silence | 1 | their samples are constant" in text


def test_a_damaged_recording_has_a_warning_and_the_rows_of_what_is_left(recordings, tmp_path):
    path = tmp_path / "recordings" / "0002.wav"
    os.truncate(path, 44 + 2 * RATE)
    write_archive([recordings], "out", "esc10", jobs=1)
    row = next(row for row in read_rows(tmp_path / "out", "files") if row["file"] == "recordings/0002.wav")
    assert row["duration_seconds"] == 1.0
    assert row["warning"].startswith("truncated or damaged; using 1.00 s of the 4.00 s")


def test_the_embeddings_of_segments_are_those_of_the_tagger(recordings, tmp_path):
    settings = ArchiveSettings(top=1, embeddings=True, segment_seconds=1.0)
    write_archive([recordings], "out", "esc10", settings, jobs=1)
    rows = [row for row in read_rows(tmp_path / "out", "embeddings") if row["file"] == "recordings/0001.wav"]
    assert [(row["start_seconds"], row["end_seconds"]) for row in rows] == [(0, 1), (1, 2), (2, 3)]
    expected = Tagger.load("esc10").embed("recordings/0001.wav", segment_seconds=1.0)
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), expected)


def test_duckdb_and_metadata(recordings, tmp_path):
    import duckdb
    import pyarrow.parquet as pq

    write_archive([recordings], "out", "esc10", ArchiveSettings(top=2), jobs=1, shard_files=5)
    query = "SELECT class, count(DISTINCT file) AS files FROM 'out/tags/*.parquet' GROUP BY class ORDER BY files DESC"
    rows = duckdb.sql(query).fetchall()
    report = read_json(tmp_path / "out" / "report.json")
    assert rows[0][1] == next(iter(report["classes"].values()))["files"]
    metadata = json.loads(pq.read_metadata(tmp_path / "out" / "tags" / "part-000000.parquet").metadata[b"kerastag"])
    assert metadata["format"] == 1
    assert metadata["settings"]["top"] == 2
    assert metadata["card"] == Tagger.load("esc10").card.as_dict()


def test_the_command_reports_and_lists_progress_for_machines(recordings, capsys):
    arguments = ["archive", recordings, "--output", "out", "--model", "esc10", "--jobs", "1", "--json-progress"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-2]["event"] == "progress"
    assert (lines[-2]["files"], lines[-2]["total_files"], lines[-2]["share"]) == (11, 11, 1.0)
    assert lines[-1]["event"] == "end"
    assert lines[-1]["is_complete"]
    assert main(arguments[:-1]) == 0
    assert "11 of 11 files" in capsys.readouterr().out


def test_sigterm_finishes_the_shard_in_hand(tmp_path):
    write_recordings(tmp_path / "recordings", 60)
    command = [sys.executable, "-m", "kerastag", "archive", "recordings", "--output", "out", "--model", "esc10"]
    command += ["--jobs", "1", "--shard-files", "4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        while not list((tmp_path / "out" / "shards").glob("*.json")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    finished = len(list((tmp_path / "out" / "shards").glob("*.json")))
    assert 1 <= finished < 16
    assert f"ended by SIGTERM with {16 - finished} of 16 shards missing: run the same command again" in errors
    assert not list((tmp_path / "out").glob(".*-files.*"))
