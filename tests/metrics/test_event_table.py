"""Tables of events: DCASE's format, the order of rows, and errors with the line."""

import numpy as np
import pytest

from kerastag.data.sound_sources import SYNTHETIC_EVENTS
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import write_synthetic_soundscapes
from kerastag.events import EventRules, find_events
from kerastag.labels import LabelSet
from kerastag.metrics import EventTable, read_events

LABELS = LabelSet.from_names(["cat", "dog"])
HEADER = "filename\tonset\toffset\tevent_label\n"


def get_rows(table):
    return list(
        zip(*(getattr(table, name).tolist() for name in ("clip", "class_index", "onset", "offset")), strict=True)
    )


def test_only_events_of_the_given_clips_are_read(tmp_path):
    text = HEADER + "b.wav\t1.5\t2.0\tdog\nb.wav\t0.25\t3\tcat\nother.wav\t0\t1\tdog\na.wav\t0\t1\tdog\nc.wav\t\t\t\n"
    (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
    table = read_events(tmp_path / "t.tsv", [b"a.wav", b"b.wav", b"c.wav"], LABELS)
    assert get_rows(table) == [(0, 1, 0.0, 1.0), (1, 0, 0.25, 3.0), (1, 1, 1.5, 2.0)]
    assert table.targets.tolist() == [[False, True], [True, True], [False, False]]
    assert table.durations.tolist() == [1.0, 2.75, 0.5]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("events.csv", "Begin;End;File;Label\n0,5;2;x\\a.wav;dog\n"),
        ("a.txt", "0.5\t2.0\tdog\n"),
        (
            "a.Table.1.selections.txt",
            "Selection\tView\tBegin Time (s)\tEnd Time (s)\tSpecies\n1\tWaveform 1\t0.5\t2\tdog\n"
            "1\tSpectrogram 1\t0.5\t2\tdog\n",
        ),
    ],
)
def test_events_are_read_from_tables_of_annotation_programs(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert get_rows(read_events(tmp_path / name, ["x/b.wav", "x/a.wav"], LABELS)) == [(1, 1, 0.5, 2.0)]


def test_tables_of_soundscapes_are_read(tmp_path):
    rules = SoundscapeConfig(soundscape_seconds=1.0, max_event_seconds=0.5)
    report = write_synthetic_soundscapes(tmp_path, sample_rate=8_000, counts={"eval": 4}, config=rules)["eval"]
    names = [f"eval_{i:06d}.wav" for i in range(4)]
    table = read_events(report.events_file, names, LabelSet.from_names(SYNTHETIC_EVENTS))
    assert len(table) == report.num_events
    assert table.targets.any(axis=1).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\tonset\n", "line 1: must name columns of files and of labels"),
        ("filename\tevent_labels\na.wav\tdog\n", "line 2: labels must have an onset and an offset"),
        (HEADER + "a.wav\t1\t\tdog\n", "line 2: onset and offset must be seconds; received: ''"),
        (HEADER + "a.wav\tx\t1\tdog\n", "line 2: onset and offset must be seconds; received: 'x'"),
        (
            HEADER + "a.wav\t2\t1\tdog\n",
            "line 2: onset must be at least 0 and offset above onset; received: '2' and '1'",
        ),
        (HEADER + "a.wav\t0\t1\tcow\n", "line 2: `name_or_mid` must be one of 2 classes; received: 'cow'"),
        (HEADER + "b.wav\t0\t1\tdog\n", "must have a row of one of 1 clips (a.wav, ...); received: none"),
        (b"\xff\xfe\x00", "must be a text file in UTF-8"),
    ],
)
def test_an_invalid_row_is_rejected_with_its_line(text, message, tmp_path):
    (tmp_path / "t.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as raised:
        read_events(tmp_path / "t.tsv", ["a.wav"], LABELS)
    assert str(raised.value).startswith(f"{tmp_path}/t.tsv: ")
    assert message in str(raised.value)


def test_a_missing_table_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="t.tsv: no such file; `kerastag make-soundscapes` writes one"):
        read_events(tmp_path / "t.tsv", ["a.wav"], LABELS)


def test_events_are_found_in_each_clip_separately():
    framewise = np.random.default_rng(0).random((5, 40, 3)) ** 2
    rules = EventRules(0.6, 0.2, smoothing_seconds=0.3, refractory_seconds=1.0)
    table = EventTable.from_framewise(framewise, 0.1, rules)
    events_by_clip = [find_events(frames, 0.1, rules) for frames in framewise]
    assert len(table) == sum(map(len, events_by_clip)) > 20
    expected = [
        (clip, e.class_index, e.onset_seconds, e.offset_seconds)
        for clip, events in enumerate(events_by_clip)
        for e in sorted(events, key=lambda e: (e.class_index, e.onset_seconds))
    ]
    assert get_rows(table) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2, 0, 0.0, 1.0), "`clip` must be in [0, 2); received: 2 to 2"),
        ((0, 3, 0.0, 1.0), "`class_index` must be in [0, 3); received: 3 to 3"),
        ((0, 0, 1.0, 1.0), "`offset` must be above `onset`"),
    ],
)
def test_rows_out_of_range_are_rejected(row, message):
    with pytest.raises(ValueError) as raised:
        EventTable.from_rows([row], 2, 3)
    assert message in str(raised.value)


def test_columns_of_different_lengths_and_other_shapes_are_rejected():
    with pytest.raises(
        ValueError, match=r"columns must be \(events,\) of one length; received: clip \(1,\), class_index \(2,\)"
    ):
        EventTable([0], [0, 1], [0.0], [1.0], 1, 2)
    with pytest.raises(ValueError, match=r"`framewise` must be \(clips, frames, classes\); received: shape \(2, 2\)"):
        EventTable.from_framewise(np.zeros((2, 2)), 0.1, EventRules())
    with pytest.raises(ValueError, match=r"`framewise` must be in \[0, 1\]; received: 0.0 to 2.0"):
        EventTable.from_framewise(np.array([[[0.0], [2.0]]]), 0.1, EventRules())
    assert len(EventTable.from_rows([], 2, 3)) == 0
