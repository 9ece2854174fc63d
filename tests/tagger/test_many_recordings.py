"""Batches of recordings: events, files of results, clips, processes and memory."""

import csv
import io
import json
import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from sounds import create_rain

from kerastag.card import Card
from kerastag.events import EventRules, find_events
from kerastag.labels import LabelSet
from kerastag.tagger import Tagger
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.reports import tag_recordings
from kerastag.tagger.tagged_recording import RecordingTagger

pytest.importorskip("ai_edge_litert")

RATE = 16_000


@pytest.fixture
def folder(tmp_path):
    """Return a folder with rain that stops and starts, silence, and a file that is not audio."""
    recordings = tmp_path / "recordings"
    (recordings / "below").mkdir(parents=True)
    rain = create_rain(12, RATE)
    rain[4 * RATE : 8 * RATE] = 0
    soundfile.write(recordings / "20240518_063000.wav", rain, RATE)
    soundfile.write(recordings / "below" / "silence.flac", np.zeros(3 * RATE), RATE)
    (recordings / "c.ogg").write_text("hello", encoding="utf-8")
    return recordings


def read_rows(text, delimiter=","):
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


RULES = {"threshold": 0.3, "smoothing_seconds": 0.9, "max_gap_seconds": 0.5, "min_seconds": 0.3}


def test_events_are_those_of_the_rules_for_the_whole_timeline(folder, capsys):
    path = str(folder / "20240518_063000.wav")
    timeline = Tagger.load("esc10").predict_timeline(path)
    rules = EventRules(0.3, None, 0.9, 0.3, 0.5)
    expected = find_events(timeline.probabilities, timeline.seconds[1], rules)
    assert expected
    assert tag_recordings([path], "esc10", format="json", events=True, **RULES) == 0
    (recording,) = json.loads(capsys.readouterr().out)
    assert [(e["name"], e["start_seconds"], e["end_seconds"]) for e in recording["events"]] == [
        (timeline.labels.names[e.class_index], round(e.onset_seconds, 4), round(min(e.offset_seconds, 12.0), 4))
        for e in expected
    ]
    assert recording["time"] == "2024-05-18T06:30:00.000"
    assert recording["events"][0]["time"].startswith("2024-05-18T06:30:")


def test_events_have_the_thresholds_of_the_card_and_end_below_the_given_one():
    tagger = Tagger.load("esc10")
    thresholds = tagger.card.thresholds
    assert RecordingTagger(tagger).rules.onset_thresholds == thresholds
    rules = RecordingTagger(tagger, off_threshold=0.2, classes=[tagger.labels.names[3]]).rules
    assert (rules.onset_thresholds, rules.offset_thresholds) == ((thresholds[3],), (min(0.2, thresholds[3]),))


def test_events_have_the_rules_of_the_card_where_the_user_chooses_none():
    tagger = Tagger.load("esc10")
    tagger.card = replace(tagger.card, event_rules={"offset_ratio": 1.0, "min_seconds": 2.0, "smoothing_seconds": 3.0})
    rules = RecordingTagger(tagger, smoothing_seconds=0.0).rules
    assert rules == EventRules(tagger.card.thresholds, tagger.card.thresholds, 0.0, 2.0)
    lengths = [float(k) for k in range(len(tagger.labels))]
    tagger.card = replace(tagger.card, event_rules={"min_seconds": lengths})
    names = [tagger.labels.names[k] for k in (3, 7)]
    assert RecordingTagger(tagger, classes=names).rules.min_seconds == (3.0, 7.0)


def test_every_format_describes_the_same_events(folder, capsys):
    path = str(folder / "20240518_063000.wav")
    texts = {}
    for name in ("jsonl", "csv", "raven", "audacity"):
        assert tag_recordings([path], "esc10", format=name, events=True, **RULES) == 0
        texts[name] = capsys.readouterr().out
    events = json.loads(texts["jsonl"])["events"]
    assert events
    expected = [(event["name"], event["start_seconds"], event["end_seconds"]) for event in events]
    rows = read_rows(texts["csv"])
    assert [(row["name"], float(row["start_seconds"]), float(row["end_seconds"])) for row in rows] == expected
    rows = read_rows(texts["raven"], "\t")
    assert [(row["Species"], float(row["Begin Time (s)"]), float(row["End Time (s)"])) for row in rows] == expected
    assert (rows[0]["Selection"], rows[0]["Begin Path"], rows[0]["High Freq (Hz)"]) == ("1", path, "16000")
    labels = [line.split("\t") for line in texts["audacity"].splitlines()]
    assert [(name, float(start), float(end)) for start, end, name in labels] == expected


def test_our_readers_of_labels_read_what_is_written_for_raven(folder, tmp_path, capsys):
    from kerastag.label_tables import read_label_table

    tag_recordings([str(folder / "20240518_063000.wav")], "esc10", format="raven", events=True, **RULES)
    table = tmp_path / "raven.txt"
    table.write_text(capsys.readouterr().out, encoding="utf-8")
    rows = read_label_table(table).rows
    assert rows
    assert {row.recording.rpartition("/")[2] for row in rows} == {"20240518_063000.wav"}


def test_a_recording_without_tags_has_a_row(folder, capsys):
    tag_recordings([str(folder / "below")], "esc10", format="csv", threshold=1.0)
    (row,) = read_rows(capsys.readouterr().out)
    assert row == {"file": str(folder / "below/silence.flac"), "mid": "", "name": "", "probability": "", "time": ""}
    for options in ({"events": True}, {"timeline": True}):
        tag_recordings([str(folder / "below")], "esc10", format="csv", threshold=1.0, **options)
        (row,) = read_rows(capsys.readouterr().out)
        assert row["file"].endswith("silence.flac")
        assert not row["name"]
        assert None not in row


def test_only_some_classes_are_used(folder, capsys):
    names = Tagger.load("esc10").labels.names
    tag_recordings([str(folder / "below")], "esc10", format="jsonl", classes=[names[2], names[7]], timeline=True)
    recording = json.loads(capsys.readouterr().out)
    assert {tag["name"] for tag in recording["tags"]} == {names[2], names[7]} == recording["timeline"].keys()
    with pytest.raises(ValueError, match="must be one of 10 classes; received: 'Unicorn'"):
        tag_recordings([str(folder)], "esc10", classes=["Unicorn"])


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_go_to_one_file_per_recording_and_are_kept(folder, tmp_path, capsys, jobs):
    results = tmp_path / "results"
    options = {"format": "csv", "output_dir": str(results), "jobs": jobs}
    assert tag_recordings([str(folder)], "esc10", **options) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines()[-1] == f"kerastag tag: 1 of 3 recordings failed: {folder / 'c.ogg'}"
    files = sorted(path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file())
    assert files == ["20240518_063000.wav.csv", "below/silence.flac.csv"]
    assert len(read_rows((results / "below/silence.flac.csv").read_text(encoding="utf-8"))) == 5
    (results / "below/silence.flac.csv").write_text("mine", encoding="utf-8")
    assert tag_recordings([str(folder)], "esc10", **options) == 1
    assert "2 of 3 recordings skipped: they have a file in" in capsys.readouterr().err
    assert (results / "below/silence.flac.csv").read_text(encoding="utf-8") == "mine"
    tag_recordings([str(folder)], "esc10", overwrite=True, **options)
    assert (results / "below/silence.flac.csv").read_text(encoding="utf-8") != "mine"


def test_recordings_of_one_name_are_refused_before_anything_is_written(folder, tmp_path):
    soundfile.write(tmp_path / "c.ogg", np.zeros(RATE), RATE, format="OGG")
    with pytest.raises(ValueError, match=r"recordings must differ in their names; received: .*c\.ogg and .*c\.ogg"):
        tag_recordings([str(folder), str(tmp_path / "c.ogg")], "esc10", output_dir=str(tmp_path / "results"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("clip_format", ["flac", "wav"])
def test_what_was_detected_is_cut_out(folder, tmp_path, capsys, clip_format):
    recording, _ = soundfile.read(folder / "20240518_063000.wav", dtype="int16")
    options = {"events": True, "clips": str(tmp_path / "clips"), "clip_format": clip_format, "format": "jsonl", **RULES}
    assert tag_recordings([str(folder / "20240518_063000.wav")], "esc10", **options) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    clips = sorted((tmp_path / "clips").iterdir())
    assert len(clips) == len(events) > 0
    for event in events:
        times = f"{event['start_seconds']:010.3f}-{event['end_seconds']:010.3f}"
        name = f"20240518_063000.wav_{times}_{event['name'].replace(' ', '_')}.{clip_format}"
        clip, rate = soundfile.read(tmp_path / "clips" / name, dtype="int16")
        first = round(event["start_seconds"] * RATE)
        assert rate == RATE
        np.testing.assert_allclose(clip, recording[first : first + len(clip)], atol=1)
        assert len(clip) / RATE == pytest.approx(event["end_seconds"] - event["start_seconds"], abs=1e-3)


def test_several_processes_give_the_same_text_in_the_same_order(folder, capsys):
    for name in ("json", "csv", "table"):
        outputs = []
        for jobs in (1, 3):
            assert tag_recordings([str(folder), str(folder)], "esc10", format=name, jobs=jobs, timeline=True) == 2
            outputs.append(capsys.readouterr())
        assert outputs[0] == outputs[1]


def test_a_process_that_is_killed_costs_one_recording(folder, tmp_path, capsys, monkeypatch):
    (folder / "kill.wav").write_bytes((folder / "20240518_063000.wav").read_bytes())
    code = "import os, sys\ndef kill(event, arguments):\n"
    code += "    if event == 'open' and str(arguments[0]).endswith('kill.wav'):\n        os.kill(os.getpid(), 9)\n"
    (tmp_path / "sitecustomize.py").write_text(code + "sys.addaudithook(kill)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    (folder / "c.ogg").unlink()
    assert tag_recordings([str(folder)], "esc10", format="csv", top=1, jobs=2) == 1
    out, err = capsys.readouterr()
    assert [row["file"] for row in read_rows(out)] == [
        str(folder / "20240518_063000.wav"),
        str(folder / "below/silence.flac"),
    ]
    assert f"{folder / 'kill.wav'}: the process that tagged it was killed or crashed" in err


class ManyClasses:
    """A model of 300 classes with the probability 0.5."""

    input, length, outputs = "waveform", None, ("clipwise", "framewise")

    def __call__(self, batch):
        clipwise = np.full((len(batch), 300), 0.5, np.float32)
        return {"clipwise": clipwise, "framewise": np.repeat(clipwise[:, None], -(-batch.shape[1] // 100), axis=1)}


@pytest.mark.parametrize("format", ["json", "csv", "table"])
def test_memory_does_not_grow_with_the_length_of_a_timeline(tmp_path, format):
    labels = LabelSet.from_names([str(k) for k in range(300)])
    tagger = RecordingTagger(Tagger(ManyClasses(), Card(labels, 1_000, 10.0, 0.1), "many"), top=5)
    peaks = []
    for seconds in (50, 500):  # The second timeline has 6 MB.
        soundfile.write(tmp_path / "long.wav", np.zeros(seconds * 1_000), 1_000)
        tracemalloc.start()
        recording = tagger.process(tmp_path / "long.wav", "long.wav", timeline=True)
        num_characters = sum(map(len, FORMATS[format].format(recording, 500, True)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert format == "table" or num_characters > 5 * 10 * seconds * 5
    assert peaks[1] < peaks[0] + 1_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": "clips"}, "`clips` needs `events`"),
        ({"clips": "FOLDER/clips", "events": True}, "`clips` must be outside of the folders to tag"),
        ({"jobs": 0}, "`jobs` must be at least 1; received: 0"),
        ({"format": "raven", "timeline": True}, "`timeline` must be false with `format` raven"),
        ({"format": "csv", "timeline": True, "events": True}, "`timeline` must be false with `events` in CSV"),
        ({"format": "audacity"}, "`format` audacity without `output_dir` must be of one recording; received: 3"),
        ({"threshold": 0.5, "thresholds": "card"}, "`thresholds` must not be given with `threshold`"),
        ({"thresholds": "best"}, "`thresholds` must be one of card; received: 'best'"),
        ({"clip_format": "mp3"}, "`clip_format` must be one of flac, wav; received: 'mp3'"),
    ],
)
def test_options_that_exclude_each_other_are_refused(folder, options, message):
    options = {name: str(folder / "clips") if value == "FOLDER/clips" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        tag_recordings([str(folder)], "no_model", **options)
