"""The cache of embeddings: damage, kills, several processes and its size."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checks import ROOT
from kerastag.custom.embedding_cache import EmbeddingCache
from kerastag.data.audio_lists import Recording

CLIPS = [np.full(8, number, np.float32) for number in range(4)]


def fill(path, clips=CLIPS, settings="backbone", **options):
    with EmbeddingCache(path, settings, **options) as cache:
        for clip in clips:
            cache.write(cache.compute_key(clip), [clip[:2], clip[:3, None]])


def count(path, clips=CLIPS, settings="backbone"):
    """Return how many clips have an entry, after comparing the entries with the clips."""
    with EmbeddingCache(path, settings) as cache:
        keys = [cache.compute_key(clip) for clip in clips]
        entries = cache.read(keys)
    for key, clip in zip(keys, clips, strict=True):
        if key in entries:
            np.testing.assert_array_equal(entries[key][1], clip[:3, None])
    return len(entries)


def test_entries_are_found_by_content_and_settings(tmp_path):
    fill(tmp_path / "cache.sqlite", CLIPS[:3])
    assert count(tmp_path / "cache.sqlite") == 3
    assert count(tmp_path / "cache.sqlite", settings="another backbone") == 0


def test_a_recording_keeps_its_key_where_it_is_moved_and_gets_another_one_where_it_changes(tmp_path):
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    first.write_bytes(b"sound")
    with EmbeddingCache(tmp_path / "cache.sqlite", "") as cache:
        key = cache.compute_key(Recording(first, "a.wav", (0,)))
        part = cache.compute_key(Recording(first, "a.wav", (0,), start_seconds=1.0, end_seconds=2.0))
        shutil.move(first, second)
        assert cache.compute_key(Recording(second, "b.wav", (1,))) == key != part
        first.write_bytes(b"noise")
        assert cache.compute_key(Recording(first, "a.wav", (0,))) != key


def test_a_name_that_is_not_unicode_has_a_key(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    path.write_bytes(b"sound")
    with EmbeddingCache(tmp_path / "cache.sqlite", "") as cache:
        key = cache.compute_key(Recording(path, path.name, (0,)))
        assert cache.compute_key(Recording(path, path.name, (0,))) == key


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"SQLite format 4\0" + content[16:],
        lambda content: content[:100] + os.urandom(len(content) - 100),
        lambda content: b"no database" * 1000,
    ],
    ids=["empty", "truncated", "another format", "overwritten", "text"],
)
def test_a_damaged_file_is_replaced(tmp_path, damage):
    path = tmp_path / "cache.sqlite"
    fill(path)
    path.write_bytes(damage(path.read_bytes()))
    assert count(path) < len(CLIPS)
    fill(path)
    assert count(path) == len(CLIPS)


def test_a_damaged_entry_is_missing(tmp_path):
    path = tmp_path / "cache.sqlite"
    fill(path)
    content = path.read_bytes()
    position = content.index(CLIPS[2][:2].tobytes())
    path.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
    assert count(path) == len(CLIPS) - 1


def test_a_file_that_cannot_be_used_costs_the_cache_but_not_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kerastag.custom.embedding_cache._BUSY_SECONDS", 0.01)
    (tmp_path / "folder.sqlite").mkdir()
    assert count(tmp_path / "folder.sqlite") == 0
    assert "folder.sqlite: embeddings are not cached: " in capsys.readouterr().err
    fill(tmp_path / "cache.sqlite", CLIPS[:1])
    other = sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert count(tmp_path / "cache.sqlite") == 0
    assert capsys.readouterr().err.count("embeddings are not cached: database is locked") == 1
    other.close()
    assert count(tmp_path / "cache.sqlite") == 1


def test_the_entries_that_were_used_longest_ago_make_room(tmp_path, monkeypatch):
    path, clock = tmp_path / "cache.sqlite", iter(range(1000))
    monkeypatch.setattr("kerastag.custom.embedding_cache.time.time", lambda: next(clock))
    fill(path)
    assert count(path, CLIPS[:1]) == 1
    [size] = {row[0] for row in sqlite3.connect(path).execute("SELECT size FROM clips")}
    fill(path, [], max_bytes=3 * size)
    assert count(path) == 2
    assert count(path, CLIPS[:1]) == 1


def test_a_killed_process_loses_no_entry_that_it_has_written(tmp_path):
    path = tmp_path / "cache.sqlite"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    process = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, env=environment)
    written = [process.stdout.readline() for _ in range(20)]
    fill(path, CLIPS)  # by another process at the same time
    process.kill()
    assert process.wait() == -signal.SIGKILL
    written += process.stdout.read().splitlines()
    process.stdout.close()
    assert count(path, [np.full(8, 100 + number, np.float32) for number in range(len(written))]) == len(written)
    assert count(path) == len(CLIPS)


def write_forever(path):
    """Write entries and print the number of each one, until the process is killed."""
    number = 100
    with EmbeddingCache(Path(path), "backbone") as cache:
        while True:
            clip = np.full(8, number, np.float32)
            cache.write(cache.compute_key(clip), [clip[:2], clip[:3, None]])
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    write_forever(sys.argv[1])
