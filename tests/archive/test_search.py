"""Tests of the search of archives."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from kerastag.archive import EmbeddingIndex, Match, format_matches, search_class, search_example, write_archive
from kerastag.archive.settings import ArchiveSettings
from kerastag.archive.tables import TableWriter
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.cli import main

RATE = 16_000


def write_embeddings(archive, parts):
    """Write the table of embeddings; row i of part p is at i seconds of the file p.wav."""
    (archive / "embeddings").mkdir(parents=True, exist_ok=True)
    for number, embeddings in enumerate(parts):
        path = archive / "embeddings" / f"part-{number:06d}.parquet"
        writer = TableWriter(path, "embeddings", {"file": [f"{number}.wav"]}, {}, embeddings.shape[1])
        starts = np.arange(len(embeddings), dtype=np.float64)
        columns = {"start_seconds": starts, "end_seconds": starts + 1, "embedding": embeddings}
        writer.append({"file": np.zeros(len(embeddings), np.int64), **columns})
        writer.close()


def compute_similarities(embeddings, query):
    """Compute the similarities of 8-bit embeddings in float64."""
    codes = np.rint(127 * embeddings.astype(np.float64) / np.abs(embeddings).max(axis=1, keepdims=True))
    query = query.astype(np.float64)
    return codes @ query / np.linalg.norm(codes, axis=1) / np.linalg.norm(query)


def test_the_search_is_exact_over_all_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("kerastag.archive.embedding_index._SECTION_ROWS", 700)
    monkeypatch.setattr("kerastag.archive.embedding_index._BLOCK_ROWS", 64)
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(size, 12)).astype(np.float32) for size in (1_000, 1, 9_000)]
    write_embeddings(tmp_path, parts)
    query = rng.normal(size=12).astype(np.float32)
    similarities = compute_similarities(np.concatenate(parts), query)
    rows = [(f"{part}.wav", row) for part, embeddings in enumerate(parts) for row in range(len(embeddings))]
    expected = np.argsort(-similarities)[:40]
    matches = EmbeddingIndex(tmp_path).search(query, 40)
    assert [(match.file, match.start_seconds) for match in matches] == [rows[i] for i in expected]
    np.testing.assert_allclose([match.score for match in matches], similarities[expected], atol=1e-6)
    assert all(match.end_seconds == match.start_seconds + 1 for match in matches)


def test_equal_embeddings_are_in_the_order_of_the_archive_and_zeros_are_last(tmp_path):
    embeddings = np.ones((9, 3), np.float32)
    embeddings[4] = 0
    embeddings[6] = np.nan
    embeddings[7] = -1
    write_embeddings(tmp_path, [embeddings])
    matches = EmbeddingIndex(tmp_path).search(np.ones(3), 20)
    assert [match.start_seconds for match in matches] == [0, 1, 2, 3, 5, 8, 4, 6, 7]
    assert [round(match.score, 6) for match in matches] == [1, 1, 1, 1, 1, 1, 0, 0, -1]
    assert [match.start_seconds for match in EmbeddingIndex(tmp_path).search(np.ones(3), 5)] == [0, 1, 2, 3, 5]


def test_an_index_is_made_once_and_again_when_the_embeddings_change(tmp_path):
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(50, 4)).astype(np.float32)]
    write_embeddings(tmp_path, parts)
    index = tmp_path / "search" / "index.json"
    assert len(EmbeddingIndex(tmp_path)) == 50
    first = index.stat().st_mtime_ns
    assert len(EmbeddingIndex(tmp_path)) == 50
    assert index.stat().st_mtime_ns == first
    write_embeddings(tmp_path, [*parts, rng.normal(size=(20, 4)).astype(np.float32)])
    assert len(EmbeddingIndex(tmp_path)) == 70
    index.write_text("{", encoding="utf-8")
    assert len(EmbeddingIndex(tmp_path)) == 70
    with (tmp_path / "search" / "embeddings.int8").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"embeddings\.int8: must have 280 bytes; received: 281"):
        EmbeddingIndex(tmp_path)


def test_wrong_arguments_of_a_search_have_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no embeddings; `kerastag archive --embeddings` writes them"):
        EmbeddingIndex(tmp_path)
    write_embeddings(tmp_path, [np.ones((3, 4), np.float32)])
    index = EmbeddingIndex(tmp_path)
    with pytest.raises(ValueError, match=r"`query` must be \(4,\), finite and not zero; received: shape \(5,\)"):
        index.search(np.ones(5))
    with pytest.raises(ValueError, match=r"norm 0"):
        index.search(np.zeros(4))
    with pytest.raises(ValueError, match="`top` must be at least 1; received: 0"):
        index.search(np.ones(4), 0)
    write_embeddings(tmp_path, [np.ones((3, 4), np.float32), np.ones((3, 5), np.float32)])
    with pytest.raises(ValueError, match="must have 4 features as .*; received: 5"):
        EmbeddingIndex(tmp_path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return an archive of tones and noise with tags and embeddings."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "recordings").mkdir()
    seconds = np.arange(RATE * 6) / RATE
    for frequency in (200, 400, 800, 1_600):
        soundfile.write(folder / "recordings" / f"tone{frequency}.wav", 0.3 * np.sin(seconds * frequency * 6.28), RATE)
    noise = np.random.default_rng(0).normal(0, 0.1, len(seconds))
    soundfile.write(folder / "recordings" / "noise.wav", noise, RATE)
    settings = ArchiveSettings(threshold=0.0, embeddings=True)
    write_archive([str(folder / "recordings")], folder / "archive", resolve_model_path(BUNDLED_MODEL), settings, jobs=1)
    return folder


def test_a_recording_of_the_archive_is_most_like_itself(archive):
    result = search_example(archive / "recordings" / "tone800.wav", archive / "archive", top=3)
    assert result.matches[0].file.endswith("tone800.wav")
    assert result.matches[0].score > 0.99
    assert len(result.matches) == 3
    assert result.matches[2].score < result.matches[1].score < result.matches[0].score


def test_windows_of_a_class_are_sorted_by_its_probability(archive, capsys):
    names = [row["class"] for row in read_rows(archive / "archive", "tags")]
    result = search_class(names[0], archive / "archive", top=1_000)
    rows = [row for row in read_rows(archive / "archive", "tags") if row["class"] == names[0]]
    expected = sorted((row["probability"] for row in rows), reverse=True)
    assert [match.score for match in result.matches] == expected
    assert len({match.file for match in result.matches}) == 5
    assert main(["archive", "search", "--class", "No such class", "--archive", str(archive / "archive")]) == 1
    assert capsys.readouterr().err.startswith("kerastag archive-search: error: ")


def read_rows(archive, table):
    import pyarrow.parquet as pq

    from kerastag.archive import list_parts

    return [row for path in list_parts(archive, table) for row in pq.read_table(path).to_pylist()]


def test_the_command_prints_results_and_cuts_excerpts(archive, tmp_path, capsys):
    example = str(archive / "recordings" / "noise.wav")
    command = ["archive", "search", example, "--archive", str(archive / "archive"), "--top", "2"]
    assert main([*command, "--format", "json", "--clips", str(tmp_path / "clips")]) == 0
    output = capsys.readouterr()
    matches = json.loads(output.out)
    assert output.err.endswith("clips: 2 excerpts\n")
    assert [match["rank"] for match in matches] == [1, 2]
    assert matches[0]["file"].endswith("noise.wav")
    clips = sorted((tmp_path / "clips").iterdir())
    assert len(clips) == 2
    first = next(clip for clip in clips if clip.name.startswith("noise.wav_") and "0001_noise" in clip.name)
    samples, rate = soundfile.read(first)
    start, end = (round(matches[0][name] * RATE) for name in ("start_seconds", "end_seconds"))
    original, _ = soundfile.read(archive / "recordings" / "noise.wav")
    assert rate == RATE
    np.testing.assert_allclose(samples, original[start:end], atol=1e-4)


def test_another_model_and_missing_arguments_are_refused(archive, tmp_path, capsys):
    folder = str(archive / "archive")
    assert main(["archive", "search", "--archive", folder]) == 1
    assert "either EXAMPLE or `--class` must be given" in capsys.readouterr().err
    other = tmp_path / "other.tflite"
    other.write_bytes(b"another model")
    example = str(archive / "recordings" / "noise.wav")
    assert main(["archive", "search", example, "--archive", folder, "--model", str(other)]) == 1
    assert "other.tflite: must be the model of the archive" in capsys.readouterr().err
    assert main(["archive", "search", example, "--archive", str(tmp_path)]) == 1
    assert f"{tmp_path}: not an archive (no plan.json)" in capsys.readouterr().err


def test_matches_are_written_in_every_format():
    matches = [Match("a, b.wav", 1.5, 11.5, 0.87654321), Match("c.wav", 0.0, 10.0, -0.25)]
    rows = list(csv.DictReader(io.StringIO(format_matches(matches, "csv"))))
    assert rows[0] == {
        "rank": "1",
        "score": "0.876543",
        "file": "a, b.wav",
        "start_seconds": "1.5",
        "end_seconds": "11.5",
    }
    assert json.loads(format_matches(matches, "json"))[1]["score"] == -0.25
    assert "| 2 | -0.2500 | c.wav | 0 | 10 |" in format_matches(matches)
    with pytest.raises(ValueError, match="`format` must be one of table, csv, json; received: 'xml'"):
        format_matches(matches, "xml")
