"""Lists of recordings: every layout is read, and every faulty line is named in the error."""

import pytest

from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_lists import read_audio_list
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
    path.write_text(text)
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
    elsewhere = touch(tmp_path / "downloads", "gone.wav")
    assert [r.name for r in read_audio_list(elsewhere, path).recordings] == ["gone.wav"]


def test_a_label_with_a_comma_must_be_a_known_class_or_needs_a_separator(tmp_path):
    touch(tmp_path, "a.wav")
    path = write_text(tmp_path, 'path,labels\na.wav,"Male speech, man speaking"\n')
    assert read_audio_list(tmp_path, path, classes=LabelSet.audioset()).recordings[0].labels == (1,)
    with pytest.raises(ValueError, match=r"list\.csv: line 2: column labels must be separated by ; or \|"):
        read_audio_list(tmp_path, path)
    assert read_audio_list(tmp_path, path, separator=",").labels.names == ("Male speech", "man speaking")


def test_audiosets_segment_list_finds_clips_named_by_ytid(tmp_path):
    names = "Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac", "unrelated.wav", "0abcdefghijklmnop.wav"
    touch(tmp_path / "downloads", *names)
    path = write_text(tmp_path, SEGMENTS)
    clips = read_audio_list(tmp_path / "downloads", path)
    assert [r.name for r in clips.recordings] == ["Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac"]
    assert [r.labels for r in clips.recordings] == [(0, clips.labels.index("/t/dd00088")), (0,)]
    assert clips.missing == ("--ZhevVpy1s",)
    assert len(clips.labels) == 527


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels,loudness\n", "line 1: .* unknown column 'loudness'"),
        ("path,fold\n", "line 1: .* no column 'labels'"),
        ("path,labels,path\n", "line 1: .* a column twice"),
        ("", "line 1: .* no column 'path'"),
        ("path,labels\na.wav,dog\na.wav,cat\n", "line 3: column path repeats line 2: a.wav"),
        ("path,labels\na.wav,dog\n./a.wav,cat\n", "line 3: column path repeats line 2"),
        ("path,labels\na.wav,\n", "line 2: column labels is empty"),
        ("path,labels\na.wav,dog;;cat\n", "line 2: column labels must not have empty labels; received: 'dog;;cat'"),
        ("path,labels\na.wav,dog;dog\n", "line 2: column labels must name each class once; received: 'dog;dog'"),
        ("path,labels\n,dog\n", "line 2: column path is empty"),
        ("path,labels\na.wav,dog,cat\n", "line 2: must have 2 columns; received: 3"),
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
        ('1abcdefghij, 0, 10, "/m/09x0r,/m/09x0r"', "line 6: must name each class once"),
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
    (tmp_path / "bytes.csv").write_bytes(b"path,labels\n\xff\xfe.wav,dog\n")
    with pytest.raises(ValueError, match=r"bytes\.csv: not a text file in UTF-8"):
        read_audio_list(tmp_path, tmp_path / "bytes.csv")
    (tmp_path / "bytes.csv").unlink()
    touch(tmp_path, "dog/a.wav", "b.wav")
    with pytest.raises(ValueError, match=r"b\.wav: must be in the folder of its class"):
        read_audio_list(tmp_path)
    (tmp_path / "b.wav").unlink()
    with pytest.raises(ValueError, match="`name_or_mid` must be one of 1 classes.* 'dog'"):
        read_audio_list(tmp_path, classes=LabelSet.from_names(["cat"]))
    assert [path.as_posix() for path in find_audio_files(tmp_path)] == ["dog/a.wav"]
