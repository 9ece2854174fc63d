"""Lists of recordings: every layout is read, and every faulty line is named in the error."""

import numpy as np
import pytest
import soundfile

from checks import needs_unicode_names
from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_list_reading import read_audio_list
from kerastag.labels import LabelSet

SEGMENTS = """# Segments csv created Sun Mar  5 10:54:31 2017
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
--ZhevVpy1s, 50.000, 60.000, "/m/012xff"
0abcdefghij, 0.000, 10.000, "/m/09x0r"
"""


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def write_text(folder, text, name="list.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_recordings_of_one_folder_per_class_are_listed(tmp_path):
    touch(tmp_path, "dog/b.ogg", "dog/a.wav", "cat/deep/c.FLAC", "cat/.d.wav", ".hidden/e.wav")
    clips = read_audio_list(tmp_path)
    assert clips.labels.names == ("cat", "dog")
    assert [r.name for r in clips.recordings] == ["cat/deep/c.FLAC", "dog/a.wav", "dog/b.ogg"]
    assert clips.targets.tolist() == [[True, False], [False, True], [False, True]]
    assert clips.missing == ()
    assert read_audio_list(tmp_path, classes=LabelSet.from_names(["dog", "cow", "cat"])).recordings[0].labels == (2,)


def test_recordings_of_a_csv_file_are_listed(tmp_path):
    touch(tmp_path, "x/1.wav", "2.wav")
    path = write_text(tmp_path, "path,labels,fold\nx/1.wav, dog; rain ,2\ngone.wav,rain,1\n\n2.wav,rain|cow,1\n")
    clips = read_audio_list(tmp_path, path)
    assert clips.labels.names == ("cow", "dog", "rain")
    assert [(r.name, r.labels, r.fold) for r in clips.recordings] == [("x/1.wav", (1, 2), "2"), ("2.wav", (2, 0), "1")]
    assert clips.missing == ("gone.wav",)
    assert str(clips) == f"{path}: table with the columns path and labels: 2 recordings, 3 classes"


def test_a_class_whose_files_do_not_exist_is_named(tmp_path):
    touch(tmp_path, "1.wav")
    path = write_text(tmp_path, "path,labels\n1.wav,dog\n2.wav,rain\n3.wav,cow\n4.wav,dog\n")
    with pytest.raises(
        ValueError,
        match=r"every class must have a recording; .* none of 'cow', 'rain'; .* 3 files .* first 2\.wav",
    ):
        read_audio_list(tmp_path, path)
    classes = LabelSet.from_names(["dog", "rain", "cow"])
    assert len(read_audio_list(tmp_path, path, classes=classes)) == 1


def test_the_labels_of_several_rows_are_combined(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    path = write_text(tmp_path, "file,label,fold\na.wav,dog,1\nb.wav,cat,2\n./a.wav,cat,1\na.wav,dog,1\n")
    recordings = read_audio_list(tmp_path, path).recordings
    assert [(r.name, r.labels, r.fold) for r in recordings] == [("a.wav", (1, 0), "1"), ("b.wav", (0,), "2")]
    with pytest.raises(ValueError, match="line 3: fold must be '1' as before; received: '2'"):
        read_audio_list(tmp_path, write_text(tmp_path, "file,label,fold\na.wav,dog,1\na.wav,cat,2\n"))


def test_names_with_a_comma_are_single_classes_in_lists_and_folders(tmp_path):
    touch(tmp_path, "Child speech, kid speaking/a.wav", "Rain/b.wav")
    path = write_text(tmp_path, 'path,labels\nRain/b.wav,"Child speech, kid speaking"\n')
    assert read_audio_list(tmp_path, path).labels.names == ("Child speech, kid speaking",)
    path.unlink()
    assert read_audio_list(tmp_path).labels.names == ("Child speech, kid speaking", "Rain")


@needs_unicode_names
def test_files_are_matched_in_the_layout_of_data_sets_and_of_other_computers(tmp_path):
    audio_dir = touch(tmp_path / "audio", "fold5/1-3-0-0.wav", "deep/caf\u0065\u0301.flac", "64760.wav")
    header = "slice_file_name,fold,classID,class\n"
    for text, name in (
        (f"{header}1-3-0-0.wav,5,3,dog\n", "fold5/1-3-0-0.wav"),
        ("path;labels\r\ndeep\\caf\u00e9.flac;dog\r\n", "deep/caf\u0065\u0301.flac"),
        ("path;labels\r\nD:\\data\\audio\\fold5\\1-3-0-0.wav;dog\r\n", "fold5/1-3-0-0.wav"),
        ("fname,labels,mids\n64760,dog,/m/1\n", "64760.wav"),
        ("filename\tevent_labels\naudio/64760.wav\tdog\n", "64760.wav"),
    ):
        clips = read_audio_list(audio_dir, write_text(tmp_path, text))
        assert [r.name for r in clips.recordings] == [name]
        assert clips.recordings[0].path.is_file()
    touch(audio_dir, "fold6/1-3-0-0.wav")
    with pytest.raises(ValueError, match=r"line 2: '1-3-0-0\.wav' must be the name of one recording"):
        read_audio_list(audio_dir, write_text(tmp_path, "path,labels\n1-3-0-0.wav,dog\n"))


STRONG = "filename\tonset\toffset\tevent_label\n"
EVENTS = f"{STRONG}a.wav\t0.5\t2\tdog\na.wav\t1\t1.5\train\na.wav\t3\t4\train\nb.wav\t\t\t\n"


def list_events(tmp_path, **options):
    touch(tmp_path, "b.wav")
    soundfile.write(tmp_path / "a.wav", np.full(8000 * 5, 0.5), 8000)
    return read_audio_list(tmp_path, write_text(tmp_path, EVENTS), **options)


def test_labeled_parts_become_clips_with_all_labels_in_them(tmp_path):
    clips = list_events(tmp_path)
    assert [(r.name, r.labels) for r in clips.recordings] == [
        ("a_0.500_2.000.wav", (0, 1)),
        ("a_1.000_1.500.wav", (0, 1)),
        ("a_3.000_4.000.wav", (1,)),
    ]
    assert [len(r.load_waveform(8000)) for r in clips.recordings] == [12_000, 4000, 8000]
    assert len(clips.recordings[0].load_waveform(8000, max_seconds=1.0)) == 8000
    assert {r.source for r in clips.recordings} == {str(tmp_path / "a.wav")}
    assert str(clips).endswith(
        "DCASE strong labels: 3 labeled parts, 1 recording, 2 classes, 1 without a label left out"
    )


def test_recordings_can_be_silenced_outside_of_their_labeled_parts(tmp_path):
    [recording] = list_events(tmp_path, excerpts="mask").recordings
    assert (recording.name, recording.labels) == ("a.wav", (0, 1))
    waveform = np.concatenate(list(recording.read_blocks(8000)))
    assert np.flatnonzero(np.diff(waveform)).tolist() == [3999, 15_999, 23_999, 31_999]
    assert (len(waveform), waveform[4000]) == (40_000, 0.5)


def test_recordings_can_stay_whole(tmp_path):
    [recording] = list_events(tmp_path, excerpts="whole").recordings
    assert (recording.name, recording.labels) == ("a.wav", (0, 1))
    assert recording.load_waveform(8000).all()
    with pytest.raises(ValueError, match="`excerpts` must be one of cut, mask, whole; received: 'none'"):
        list_events(tmp_path, excerpts="none")


def test_each_table_of_a_folder_describes_the_recording_that_it_is_named_after(tmp_path):
    recordings = touch(tmp_path / "audio", "a.wav", "b.wav")
    touch(tmp_path / "labels", "notes.pdf")
    write_text(tmp_path / "labels", "0.5\t1.5\tdog\n", "a.txt")
    write_text(tmp_path / "labels", "0\t2\tcat\n", "b.Table.1.selections.txt")
    clips = read_audio_list(recordings, tmp_path / "labels")
    assert [r.name for r in clips.recordings] == ["a_0.500_1.500.wav", "b_0.000_2.000.wav"]
    assert clips.format == "Audacity label track"


def test_times_are_counted_through_all_recordings_if_a_table_names_none(tmp_path):
    for name, seconds in (("a.wav", 1), ("b.wav", 2)):
        soundfile.write(tmp_path / name, np.zeros(8000 * seconds), 8000)
    header = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    path = write_text(tmp_path, f"{header}2\tS\t1.5\t2\tdog\n1\tS\t0.25\t0.75\tcat\n", "raven.txt")
    with pytest.warns(audio.AudioWarning, match="names no recording: times are counted through those of"):
        clips = read_audio_list(tmp_path, path)
    assert [(r.path.name, r.start_seconds, r.end_seconds) for r in clips.recordings] == [
        ("a.wav", 0.25, 0.75),
        ("b.wav", 0.5, 1.0),
    ]
    path = write_text(tmp_path, f"{header}1\tS\t3\t4\tdog\n", "raven.txt")
    message = "line 2: must begin before the end of 2 recordings, 3.000 s; received: 3.000 s"
    with pytest.warns(audio.AudioWarning), pytest.raises(ValueError, match=message):
        read_audio_list(tmp_path, path)


def test_audiosets_segment_list_finds_clips_named_by_ytid(tmp_path):
    names = "Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac", "unrelated.wav", "0abcdefghijklmnop.wav"
    touch(tmp_path / "downloads", *names)
    path = write_text(tmp_path, SEGMENTS)
    clips = read_audio_list(tmp_path / "downloads", path)
    assert [r.name for r in clips.recordings] == ["Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac"]
    assert [r.labels for r in clips.recordings] == [(0, clips.labels.index("/t/dd00088")), (0,)]
    assert clips.missing == ("--ZhevVpy1s",)
    assert len(clips.labels) == 527
    few = clips.drop_empty_classes()
    assert few.labels.names == ("Speech", few.labels.names[1])
    assert [r.labels for r in few.recordings] == [(0, 1), (0,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,fold\n", "line 1: must name columns of files and of labels"),
        ("path,labels\na.wav,\n", "line 2: column labels is empty"),
        ("path,labels\na.wav,dog\x1b[2J\n", "`mids` must have no control characters"),
        ("path,labels\n", "no recording in it"),
        ("path,labels\nb.wav,dog\n", "no recording in it; 1 files do not exist, first b.wav"),
    ],
)
def test_a_faulty_line_of_a_csv_file_is_named(tmp_path, text, message):
    touch(tmp_path, "a.wav")
    with pytest.raises(ValueError, match=message) as raised:
        read_audio_list(tmp_path, write_text(tmp_path, text))
    assert str(tmp_path / "list.csv") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0abcdefghij, 0, 10", "line 6: must be `YTID, start, end, MIDs`"),
        ('0abcdefghij, x, 10, "/m/09x0r"', "line 6: must be `YTID, start, end, MIDs`"),
        ('0abcdefghij, 0, 10, "/m/09x0r"', "line 6: repeats YTID 0abcdefghij of line 5"),
        ('1abcdefghij, 0, 10, "/m/nowhere"', "line 6: .*'/m/nowhere'"),
        ('1abcdefghij, 0, 10, "/m/09x0r,"', "line 6: YTID and MIDs must not be empty"),
    ],
)
def test_a_faulty_line_of_a_segment_list_is_named(tmp_path, line, message):
    touch(tmp_path / "downloads", "0abcdefghij.wav")
    with pytest.raises(ValueError, match=message):
        read_audio_list(tmp_path / "downloads", write_text(tmp_path, SEGMENTS + line + "\n"))


def test_two_files_of_one_ytid_are_refused(tmp_path):
    touch(tmp_path / "downloads", "0abcdefghij.wav", "Y0abcdefghij.flac")
    with pytest.raises(ValueError, match="two files of YTID 0abcdefghij: 0abcdefghij.wav and Y0abcdefghij.flac"):
        read_audio_list(tmp_path / "downloads", write_text(tmp_path, SEGMENTS))


def test_missing_and_faulty_folders_and_lists_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="`audio_dir`: .*nowhere: no such folder"):
        read_audio_list(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="none.csv: no such file"):
        read_audio_list(tmp_path, tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no recording in it"):
        read_audio_list(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"path,labels\n\xff\x81.wav,dog\n")
    with pytest.raises(ValueError, match=r"bytes\.csv: line 2: must be a text file in UTF-8"):
        read_audio_list(tmp_path, tmp_path / "bytes.csv")
    (tmp_path / "bytes.csv").unlink()
    touch(tmp_path, "dog/a.wav", "b.wav")
    with pytest.raises(ValueError, match=r"b\.wav: must be in the folder of its class"):
        read_audio_list(tmp_path)
    (tmp_path / "b.wav").unlink()
    with pytest.raises(ValueError, match="`name_or_mid` must be one of 1 classes.* 'dog'"):
        read_audio_list(tmp_path, classes=LabelSet.from_names(["cat"]))
    assert [path.as_posix() for path in find_audio_files(tmp_path)] == ["dog/a.wav"]


def test_folders_with_a_minus_or_an_exclamation_mark_are_negative_labels(tmp_path):
    touch(tmp_path, "dog/a.wav", "cat/b.wav", "-dog/c.wav", "!cat/d.wav")
    clips = read_audio_list(tmp_path, allow_negatives=True)
    assert clips.labels.names == ("cat", "dog")
    assert [(r.name, r.labels, r.negatives) for r in clips.recordings] == [
        ("!cat/d.wav", (), (0,)),
        ("-dog/c.wav", (), (1,)),
        ("cat/b.wav", (0,), ()),
        ("dog/a.wav", (1,), ()),
    ]
    assert clips.negatives.tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert read_audio_list(tmp_path).labels.names == ("!cat", "-dog", "cat", "dog")


def test_negative_labels_of_a_list_are_in_a_column_or_have_a_minus(tmp_path):
    touch(tmp_path, "1.wav", "2.wav", "3.wav", "4.wav")
    path = write_text(tmp_path, "path,labels,Not\n1.wav,dog;-cat,\n2.wav,cat,dog\n3.wav,,dog;cat\n4.wav,!dog,\n")
    clips = read_audio_list(tmp_path, path, allow_negatives=True)
    assert [(r.labels, r.negatives) for r in clips.recordings] == [((1,), (0,)), ((0,), (1,)), ((), (1, 0)), ((), (1,))]
    assert [r.negatives for r in read_audio_list(tmp_path, path).recordings] == [()] * 3


def test_a_part_of_a_recording_may_have_negative_labels(tmp_path):
    touch(tmp_path, "1.wav")
    text = "path,labels,start,end\n1.wav,dog,0,1\n1.wav,-dog,3,4\n1.wav,-dog,0.5,2\n1.wav,-cat,0,1\n1.wav,cat,6,7\n"
    clips = read_audio_list(tmp_path, write_text(tmp_path, text), allow_negatives=True)
    assert [(r.start_seconds, r.labels, r.negatives) for r in clips.recordings] == [
        (0.0, (1,), (0,)),
        (0.5, (1,), (0,)),  # It overlaps a part with a dog.
        (3.0, (), (1,)),
        (6.0, (0,), ()),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.wav,dog;-dog,", r"1\.wav: line 3: must not be labeled 'dog' and not 'dog'"),
        ("1.wav,,pig", r"list\.csv: line 3: negative: .*received: 'pig'"),
        ("1.wav,,", r"list\.csv: line 3: column labels is empty"),
    ],
)
def test_a_wrong_negative_label_is_named(tmp_path, line, message):
    touch(tmp_path, "1.wav")
    path = write_text(tmp_path, f"path,labels,not\n1.wav,dog,\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_audio_list(tmp_path, path, allow_negatives=True)
