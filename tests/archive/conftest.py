"""Recordings, and archives of them made with the bundled model."""

import hashlib
import importlib.util

import numpy as np
import pytest
import soundfile
from sounds import create_rain

# Without the extra `archive`, there is nothing to test.
collect_ignore_glob = [] if all(map(importlib.util.find_spec, ("pyarrow", "ai_edge_litert"))) else ["test_*.py"]

RATE = 16_000


def write_recordings(folder, count=8):
    """Write short recordings of noise of several lengths, one of rain that stops, one of silence, one at a low rate."""
    (folder / "below").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.normal(0, 0.1, RATE * (2 + number % 3)).astype(np.float32)
        soundfile.write(folder / f"{number:04d}.wav", noise, RATE)
    pieces = create_rain(24, RATE)
    pieces[8 * RATE : 16 * RATE] = 0
    soundfile.write(folder / "below" / "long.flac", pieces, RATE)
    soundfile.write(folder / "below" / "silence.flac", np.zeros(3 * RATE), RATE)
    soundfile.write(folder / "low.wav", 1e-3 * rng.normal(0, 0.1, 3 * 4_000), 4_000)
    return folder


def read_digests(archive):
    """Return the SHA-256 of every file of an archive that is a function of its inputs, by its relative path."""
    names = ("files", "tags", "events", "embeddings", "failures", "shards", "manifest")
    paths = [path for name in names for path in sorted((archive / name).rglob("*")) if path.is_file()]
    assert paths
    return {path.relative_to(archive).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def read_rows(archive, table):
    """Read the rows of a table of an archive as dictionaries, in the order of the shards."""
    import pyarrow.parquet as pq

    from kerastag.archive import list_parts

    return [row for path in list_parts(archive, table) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Return the name of a folder of recordings in the current folder."""
    write_recordings(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    return "recordings"
