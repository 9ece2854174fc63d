"""Reports of tags: tables, JSON and CSV of many recordings, and a picture of one."""

import csv
import functools
import io
import json
import sys

import numpy as np
import pytest
import soundfile
from tagger.small_models import save_small_model

from kerastag.audio import AudioWarning
from kerastag.labels import LabelSet
from kerastag.tagger import Tagger
from kerastag.tagger.reports import find_recordings, tag_recordings

RATE = 32_000
CLASSES = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark, of a dog", "Rain", "Speech"))
load_once = functools.cache(Tagger.load)


@pytest.fixture(autouse=True)
def load_model_once(monkeypatch):
    """Load the model once: every test tags with the same file, and loading it takes most of the time."""
    monkeypatch.setattr(Tagger, "load", load_once)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_small_model(tmp_path_factory.mktemp("models") / "small.keras", CLASSES))


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two recordings, a damaged one and a hidden one."""
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    (tmp_path / "below").mkdir()
    soundfile.write(tmp_path / "b.wav", noise, RATE)
    soundfile.write(tmp_path / "below" / "a.FLAC", noise[:RATE], RATE, format="FLAC")
    soundfile.write(tmp_path / "._b.wav", noise, RATE)
    (tmp_path / "c.ogg").write_text("hello", encoding="utf-8")
    return tmp_path


def test_a_folder_stands_for_its_sorted_recordings(folder):
    (folder / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.warns(AudioWarning, match=r"1 file passed over: 1 \.txt"):
        find_recordings(str(folder))
    (folder / "notes.txt").unlink()
    assert find_recordings(str(folder)) == [str(folder / name) for name in ("b.wav", "below/a.FLAC", "c.ogg")]
    assert find_recordings("-") == ["-"]
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: must have audio files \(.*\.wav.*\); received: none"):
        find_recordings(str(folder / "empty"))


def test_a_damaged_recording_is_one_line_and_the_others_are_tagged(model, folder, capsys):
    num_failed = tag_recordings([str(folder / "gone.wav"), str(folder)], model, top=2)
    out, err = capsys.readouterr()
    assert num_failed == 2
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(folder / "b.wav"), str(folder / "below/a.FLAC")]
    assert len(lines) == 6
    error_lines = [line for line in err.splitlines() if line.startswith("kerastag tag:")]
    assert len(error_lines) == 3
    assert error_lines[0] == f"kerastag tag: {folder / 'gone.wav'}: no such file"
    assert str(folder / "c.ogg") in error_lines[1]
    assert error_lines[2] == f"kerastag tag: 2 of 4 recordings failed: {folder / 'gone.wav'}, {folder / 'c.ogg'}"


def test_json_is_one_array_with_the_probabilities_of_each_tag_over_time(model, folder, capsys):
    assert tag_recordings([str(folder / "b.wav")] * 2, model, format="json", timeline=True, top=2) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second
    assert first["file"] == str(folder / "b.wav")
    assert first["duration_seconds"] == 3
    assert first["seconds"] == [round(0.32 * frame, 4) for frame in range(10)]
    assert [len(first["timeline"][tag["name"]]) for tag in first["tags"]] == [10, 10]
    assert first["tags"][0]["probability"] >= first["tags"][1]["probability"]


def test_csv_has_a_row_for_each_tag(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, format="csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["mid"], row["name"]) for row in rows} == set(zip(CLASSES.mids, CLASSES.names, strict=True))
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_csv_with_a_timeline_has_a_row_for_each_frame(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, format="csv", timeline=True, top=1)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["seconds"]) for row in rows] == [round(0.32 * frame, 4) for frame in range(10)]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_draws_a_bar_for_each_frame(model, folder, monkeypatch, encoding):
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    tag_recordings([str(folder / "b.wav")], model, timeline=True, threshold=0.0)
    lines = printed.buffer.getvalue().decode(encoding).splitlines()
    assert lines[0].endswith("b.wav  (3.00 s)")
    assert [len(line.split("|")[1]) for line in lines[1:]] == [10, 10, 10]


def test_standard_input_is_tagged_like_a_file(model, folder, monkeypatch, capsys):
    tag_recordings([str(folder / "b.wav")], model, format="json")
    expected = json.loads(capsys.readouterr().out)[0]["tags"]
    with (folder / "b.wav").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert tag_recordings(["-"], model, format="json") == 0
    (recording,) = json.loads(capsys.readouterr().out)
    assert (recording["file"], recording["tags"]) == ("-", expected)


def test_the_table_says_when_no_tag_reaches_the_threshold(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, threshold=1.0)
    assert capsys.readouterr().out.splitlines()[1:] == ["  nothing above the threshold"]


def test_the_picture_shows_log_mel_above_the_tags(model, folder):
    from matplotlib.image import imread

    output = folder / "out.png"
    assert tag_recordings([str(folder / "b.wav")], model, plot=str(output), top=2) == 0
    picture = imread(output)
    assert picture.shape[0] > 400
    assert picture.shape[1] == 1500
    assert [path.name for path in folder.glob(".kerastag*")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "`top` must be .* at least 1; received: 0"),
        ({"threshold": 1.5}, r"`threshold` must be in \[0, 1\]; received: 1.5"),
        ({"format": "xml"}, "`format` must be one of table, json, jsonl, csv, raven, audacity; received: 'xml'"),
        ({"pooling": "sum"}, "`pooling` must be one of max, mean; received: 'sum'"),
        ({"plot": "out.txt"}, "`output` must end in one of .png, .pdf, .svg; received: out.txt"),
        ({"plot": "out.png"}, "`plot` must be of one recording; received: 3"),
    ],
)
def test_options_are_checked_before_the_model_is_loaded(folder, options, message):
    with pytest.raises(ValueError, match=message):
        tag_recordings([str(folder)], "no such model", **options)
