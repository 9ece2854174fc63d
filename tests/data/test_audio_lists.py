"""Lists of recordings: each layout read as it is, and every faulty line refused by its place."""

import pytest

from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_lists import read_audio_list, read_class_folders, read_labels_csv, read_segment_list
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


def written(folder, text, name="list.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_folder_of_classes(tmp_path):
    touch(tmp_path, "dog/b.ogg", "dog/a.wav", "cat/deep/c.FLAC", "cat/notes.txt", "cat/.d.wav", ".hidden/e.wav")
    found = read_audio_list(tmp_path)
    assert found.labels.names == ("cat", "dog")
    assert [r.name for r in found.recordings] == ["cat/deep/c.FLAC", "dog/a.wav", "dog/b.ogg"]
    assert found.targets.tolist() == [[True, False], [False, True], [False, True]]
    assert found.missing == ()
    assert read_class_folders(tmp_path, classes=LabelSet.from_names(["dog", "cow", "cat"])).recordings[0].labels == (2,)


def test_a_csv_of_paths_and_labels(tmp_path):
    touch(tmp_path, "x/1.wav", "2.wav")
    path = written(tmp_path, "path,labels,fold\nx/1.wav, dog; rain ,2\ngone.wav,rain,1\n\n2.wav,rain|cow,1\n")
    found = read_labels_csv(path)
    assert found.labels.names == ("cow", "dog", "rain")
    assert [(r.name, r.labels, r.fold) for r in found.recordings] == [("x/1.wav", (1, 2), "2"), ("2.wav", (2, 0), "1")]
    assert found.missing == ("gone.wav",)
    elsewhere = touch(tmp_path / "clips", "gone.wav")
    assert [r.name for r in read_audio_list(elsewhere, path).recordings] == ["gone.wav"]


def test_labels_with_commas_are_known_classes_or_need_a_separator(tmp_path):
    touch(tmp_path, "a.wav")
    path = written(tmp_path, 'path,labels\na.wav,"Male speech, man speaking"\n')
    assert read_labels_csv(path, classes=LabelSet.audioset()).recordings[0].labels == (1,)
    with pytest.raises(ValueError, match=r"list\.csv: line 2: column labels: separate labels by ; or \|"):
        read_labels_csv(path)
    assert read_labels_csv(path, separator=",").labels.names == ("Male speech", "man speaking")


def test_audioset_segments_over_clips_named_by_ytid(tmp_path):
    names = "Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac", "unrelated.wav", "0abcdefghijklmnop.wav"
    touch(tmp_path / "clips", *names)
    path = written(tmp_path, SEGMENTS)
    found = read_audio_list(tmp_path / "clips", path)
    assert [r.name for r in found.recordings] == ["Y--PJHxphWEs.wav", "sub/0abcdefghij_0.000_10.000.flac"]
    assert [r.labels for r in found.recordings] == [(0, found.labels.index("/t/dd00088")), (0,)]
    assert found.missing == ("--ZhevVpy1s",)
    assert len(found.labels) == 527


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
        ("path,labels\na.wav,dog;;cat\n", "line 2: column labels has an empty label: 'dog;;cat'"),
        ("path,labels\na.wav,dog;dog\n", "line 2: column labels names a class twice: 'dog;dog'"),
        ("path,labels\n,dog\n", "line 2: column path is empty"),
        ("path,labels\na.wav,dog,cat\n", "line 2: 2 columns are expected, received 3"),
        ("path,labels\n", "no recording in it"),
        ("path,labels\nb.wav,dog\n", "no recording in it; 1 that it names are missing, b.wav first"),
    ],
)
def test_a_faulty_csv_is_refused_by_its_line(tmp_path, text, message):
    touch(tmp_path, "a.wav")
    with pytest.raises(ValueError, match=message) as raised:
        read_labels_csv(written(tmp_path, text))
    assert str(tmp_path / "list.csv") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0abcdefghij, 0, 10", "line 6: must be `YTID, start, end, MIDs`"),
        ('0abcdefghij, x, 10, "/m/09x0r"', "line 6: must be `YTID, start, end, MIDs`"),
        ('0abcdefghij, 0, 10, "/m/09x0r"', "line 6: repeats YTID 0abcdefghij of line 5"),
        ('1abcdefghij, 0, 10, "/m/nowhere"', "line 6: .*'/m/nowhere'"),
        ('1abcdefghij, 0, 10, "/m/09x0r,/m/09x0r"', "line 6: names a class twice"),
        ('1abcdefghij, 0, 10, "/m/09x0r,"', "line 6: empty YTID or MID"),
    ],
)
def test_a_faulty_segment_list_is_refused_by_its_line(tmp_path, line, message):
    touch(tmp_path / "clips", "0abcdefghij.wav")
    with pytest.raises(ValueError, match=message):
        read_segment_list(written(tmp_path, SEGMENTS + line + "\n"), tmp_path / "clips")


def test_two_files_of_one_ytid_are_refused(tmp_path):
    touch(tmp_path / "clips", "0abcdefghij.wav", "Y0abcdefghij.flac")
    with pytest.raises(ValueError, match="two files of YTID 0abcdefghij: 0abcdefghij.wav and Y0abcdefghij.flac"):
        read_segment_list(written(tmp_path, SEGMENTS), tmp_path / "clips")


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="`audio_dir`: .*nowhere: no such folder"):
        read_audio_list(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="none.csv: no such list"):
        read_audio_list(tmp_path, tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no recording in it"):
        read_audio_list(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"path,labels\n\xff\xfe.wav,dog\n")
    with pytest.raises(ValueError, match=r"bytes\.csv: not a text file in UTF-8"):
        read_labels_csv(tmp_path / "bytes.csv")
    touch(tmp_path, "dog/a.wav", "b.wav")
    with pytest.raises(ValueError, match=r"b\.wav: must lie in the folder of its class"):
        read_class_folders(tmp_path)
    (tmp_path / "b.wav").unlink()
    with pytest.raises(ValueError, match="`name_or_mid` must be one of 1 classes; received: 'dog'"):
        read_class_folders(tmp_path, classes=LabelSet.from_names(["cat"]))
    assert [path.as_posix() for path in find_audio_files(tmp_path)] == ["dog/a.wav"]
