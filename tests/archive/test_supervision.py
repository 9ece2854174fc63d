"""Recordings that crash, stop or fill the process that tags them cost only themselves."""

import os
import time
from functools import partial

import numpy as np
import pytest
import soundfile
from archive.broken_files import NOT_AUDIO, write_broken_files
from archive.conftest import RATE, read_digests, read_rows, write_recordings
from archive.kills import kill_workers_while

from kerastag.archive import write_archive

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals and shell scripts")


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Return a function that puts a shell script in the place of ffmpeg, which decodes files that are not audio."""

    def write(line):
        path = tmp_path / "programs" / "ffmpeg"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")

    return write


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (
            "kill -SEGV $PPID; sleep 60",
            "crash",
            "the process that tagged it ended with SIGSEGV in 3 of 3 tries; convert",
        ),
        ("sleep 60", "time", "no progress in 2 s; check whether it plays, or raise --time-limit, then run again with"),
    ],
)
def test_a_recording_that_crashes_or_stops_its_process_is_one_failure(
    recordings, tmp_path, fake_ffmpeg, line, kind, reason
):
    write_archive([recordings], "good", "esc10", jobs=1)
    fake_ffmpeg(line)
    (tmp_path / "recordings" / "0003a.m4a").write_bytes(b"not audio")
    start = time.monotonic()
    write_archive([recordings], "out", "esc10", jobs=1, time_limit=60 if kind == "crash" else 2)
    assert time.monotonic() - start < 60
    (failure,) = read_rows(tmp_path / "out", "failures")
    assert (failure["file"], failure["kind"]) == ("recordings/0003a.m4a", kind)
    assert failure["reason"].startswith(reason)
    for table in ("files", "tags"):
        assert read_rows(tmp_path / "out", table) == read_rows(tmp_path / "good", table)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")  # noqa: PTH110
def test_a_recording_that_needs_too_much_memory_is_one_failure(recordings, tmp_path):
    soundfile.write(tmp_path / "recordings" / "0003a.wav", np.zeros((9_000, 1_024), np.float32), RATE, subtype="FLOAT")
    write_archive([recordings], "out", "esc10", jobs=1, memory_limit_mb=100)
    (failure,) = read_rows(tmp_path / "out", "failures")
    assert (failure["file"], failure["kind"]) == ("recordings/0003a.wav", "memory")
    assert failure["reason"].startswith("it needs more memory than allowed; raise --memory-limit")
    assert len(read_rows(tmp_path / "out", "files")) == 11


def test_a_killed_worker_changes_no_byte(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recordings(tmp_path / "recordings", 100)
    write_archive(["recordings"], "good", "esc10", jobs=2, shard_files=10)
    run = partial(write_archive, ["recordings"], "out", "esc10", jobs=2, shard_files=10)
    assert kill_workers_while(run, 1, (0.05, 0.1))
    assert read_digests(tmp_path / "out") == read_digests(tmp_path / "good")


def test_every_kind_of_broken_file_has_a_row_that_states_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = write_broken_files(tmp_path / "recordings")
    assert len(kinds) >= 40
    write_recordings(tmp_path / "recordings", 4)
    report = write_archive(["recordings"], "out", "esc10", jobs=2, shard_files=16)
    rows = {row["file"].removeprefix("recordings/"): row for row in read_rows(tmp_path / "out", "failures")}
    expected = {name: NOT_AUDIO if kind == "not_audio" else kind for name, kind in kinds.items()}
    assert {name: row["kind"] for name, row in rows.items()} == expected
    assert all("; " in row["reason"] for row in rows.values())
    assert len(read_rows(tmp_path / "out", "files")) == 7
    assert sum(report["failures"].values()) == len(kinds)


def test_files_that_were_fixed_are_processed_again_on_request(recordings, tmp_path):
    path = tmp_path / "recordings" / "0003a.wav"
    path.write_bytes(b"not audio")
    assert write_archive([recordings], "out", "esc10", jobs=1)["failures"] == {NOT_AUDIO: 1}
    content, times = (tmp_path / "recordings" / "0000.wav").read_bytes(), os.stat(path)  # noqa: PTH116
    path.write_bytes(content)
    report = write_archive([recordings], "out", "esc10", jobs=1, retry_failures=True)
    assert report["failures"] == {"changed": 1}
    assert times.st_size != len(content)
    assert write_archive([recordings], "out", "esc10", jobs=1, update=True)["failures"] == {}


@pytest.mark.slow
def test_hundreds_of_broken_files_leave_good_ones_untouched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recordings(tmp_path / "good", 20)
    for number in range(4):
        kinds = write_broken_files(tmp_path / "mixed" / str(number))
    write_recordings(tmp_path / "mixed" / "2" / "good", 20)
    write_archive(["good"], "alone", "esc10", jobs=2)
    write_archive(["mixed"], "out", "esc10", jobs=2, shard_files=20)
    assert len(read_rows(tmp_path / "out", "failures")) == 4 * len(kinds) >= 200
    for table in ("files", "tags"):
        alone = [{**row, "file": "mixed/2/" + row["file"]} for row in read_rows(tmp_path / "alone", table)]
        assert read_rows(tmp_path / "out", table) == alone
