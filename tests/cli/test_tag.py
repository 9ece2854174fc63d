"""What `kerastag tag` prints for many recordings, good and bad, in each format, and the picture it draws."""

import csv
import functools
import io
import json
import sys

import numpy as np
import pytest
import soundfile

from kerastag.card import Card, write_card
from kerastag.cli.tag import Options, recordings, tag_recordings
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet
from kerastag.tagger import Tagger

RATE = 32_000
CLASSES = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark, of a dog", "Rain", "Speech"))
load_once = functools.cache(Tagger.load)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Every test here tags with the same file, and to load it takes most of the time."""
    monkeypatch.setattr(Tagger, "load", load_once)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small MN with random weights: which tags it gives does not matter here, that they are its own does."""
    from kerastag.models.mn import mn

    path = tmp_path_factory.mktemp("models") / "small.keras"
    mn(3, width=0.1, input="waveform").save(path)
    front_end = FRONT_ENDS["efficientat"].as_dict()
    write_card(path, Card(CLASSES, RATE, 2.0, seconds_per_frame=0.32, front_end=front_end))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Two good recordings, one of them a folder below, a bad one, a hidden one, and what is no recording."""
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    (tmp_path / "below").mkdir()
    soundfile.write(tmp_path / "b.wav", noise, RATE)
    soundfile.write(tmp_path / "below" / "a.FLAC", noise[:RATE], RATE, format="FLAC")
    soundfile.write(tmp_path / "._b.wav", noise, RATE)
    (tmp_path / "c.ogg").write_text("hello")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


def test_a_folder_stands_for_its_recordings_in_order(folder):
    assert recordings(str(folder)) == [str(folder / name) for name in ("b.wav", "below/a.FLAC", "c.ogg")]
    assert recordings("-") == ["-"]
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: must hold recordings \(.*\.wav.*\). Received: none"):
        recordings(str(folder / "empty"))


def test_a_bad_recording_is_one_line_and_the_rest_goes_on(model, folder, capsys):
    failed = tag_recordings([str(folder / "gone.wav"), str(folder)], model, Options(top=2))
    out, err = capsys.readouterr()
    assert failed == 2
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(folder / "b.wav"), str(folder / "below/a.FLAC")]
    assert len(lines) == 6
    complaints = [line for line in err.splitlines() if line.startswith("kerastag tag:")]
    assert len(complaints) == 2
    assert complaints[0] == f"kerastag tag: {folder / 'gone.wav'}: there is no such file"
    assert str(folder / "c.ogg") in complaints[1]


def test_json_is_one_array_with_the_timeline_of_each_tag(model, folder, capsys):
    assert tag_recordings([str(folder / "b.wav")] * 2, model, Options(format="json", timeline=True, top=2)) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second
    assert first["file"] == str(folder / "b.wav")
    assert first["duration_seconds"] == 3
    assert first["seconds"] == [round(0.32 * frame, 4) for frame in range(10)]
    assert [len(first["timeline"][tag["name"]]) for tag in first["tags"]] == [10, 10]
    assert first["tags"][0]["probability"] >= first["tags"][1]["probability"]


def test_csv_has_a_row_for_each_tag(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, Options(format="csv"))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["mid"], row["name"]) for row in rows} == set(zip(CLASSES.mids, CLASSES.names, strict=True))
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_csv_of_a_timeline_has_a_row_for_each_frame(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, Options(format="csv", timeline=True, top=1))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["seconds"]) for row in rows] == [round(0.32 * frame, 4) for frame in range(10)]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_draws_the_course_of_each_tag(model, folder, monkeypatch, encoding):
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    tag_recordings([str(folder / "b.wav")], model, Options(timeline=True, threshold=0.0))
    lines = printed.buffer.getvalue().decode(encoding).splitlines()
    assert lines[0].endswith("b.wav  (3.00 s)")
    assert [len(line.split("|")[1]) for line in lines[1:]] == [10, 10, 10]


def test_standard_input_is_a_recording_too(model, folder, monkeypatch, capsys):
    tag_recordings([str(folder / "b.wav")], model, Options(format="json"))
    expected = json.loads(capsys.readouterr().out)[0]["tags"]
    with (folder / "b.wav").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert tag_recordings(["-"], model, Options(format="json")) == 0
    assert json.loads(capsys.readouterr().out) == [{"file": "-", "tags": expected}]


def test_nothing_above_the_threshold_is_said(model, folder, capsys):
    tag_recordings([str(folder / "b.wav")], model, Options(threshold=1.0))
    assert capsys.readouterr().out.splitlines()[1:] == ["  nothing above the threshold"]


def test_the_picture_shows_log_mel_above_the_tags(model, folder):
    from matplotlib.image import imread

    output = folder / "out.png"
    assert tag_recordings([str(folder / "b.wav")], model, Options(plot=str(output), top=2)) == 0
    picture = imread(output)
    assert picture.shape[0] > 400
    assert picture.shape[1] == 1500
    assert [path.name for path in folder.glob(".kerastag*")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(top=0), "`--top` must be at least 1, received 0"),
        (Options(threshold=1.5), r"`--threshold` must lie in \[0, 1\], received 1.5"),
        (Options(format="xml"), "`--format` must be one of table, json, csv, received 'xml'"),
        (Options(plot="out.txt"), "`output` must end in .png, .pdf, .svg, received out.txt"),
        (Options(plot="out.png"), "`--plot` draws one recording, received 3"),
    ],
)
def test_options_are_checked_before_the_model_is_read(folder, options, message):
    with pytest.raises(ValueError, match=message):
        tag_recordings([str(folder)], "no such model", options)
