"""Label sets of AudioSet and of users, and invalid class lists."""

import numpy as np
import pytest

from checks import SHARED, needs_shared
from kerastag.labels import LabelSet


def test_audioset_has_the_official_classes():
    labels = LabelSet.audioset()
    assert len(labels) == len(labels.mids) == len(set(labels.mids)) == len(set(labels.names)) == 527
    assert (labels.mids[0], labels.names[0]) == ("/m/09x0r", "Speech")
    assert (labels.mids[526], labels.names[526]) == ("/m/07hvw1", "Field recording")
    assert labels.names[1] == "Male speech, man speaking"


@pytest.mark.real
@needs_shared
def test_audioset_equals_the_official_csv():
    assert LabelSet.from_csv(SHARED / "data" / "audioset" / "class_labels_indices.csv") == LabelSet.audioset()


def test_a_class_is_found_by_name_and_by_identifier():
    labels = LabelSet.audioset()
    assert [labels.index(name) for name in labels.names] == list(range(527))
    assert [labels.index(mid) for mid in labels.mids] == list(range(527))
    with pytest.raises(
        ValueError, match=r"one of 527 classes; received: 'telephone bell'; did you mean 'Telephone bell"
    ):
        labels.index("telephone bell")
    with pytest.raises(ValueError, match="one of 527 classes; received: 'zzz'$"):
        labels.index("zzz")


def test_names_of_users_are_also_the_identifiers():
    labels = LabelSet.from_names(["dog", "rain"])
    assert labels == LabelSet(("dog", "rain"), ("dog", "rain"))
    assert labels.index("rain") == 1
    assert hash(labels) == hash(LabelSet.from_names(iter(["dog", "rain"])))
    assert LabelSet.from_names(np.array(["dog", "rain"]).tolist()) == labels


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "`names` must contain at least one class"),
        (["dog", ""], "non-empty text; received: '' for class 1"),
        (["dog", "  "], "non-empty text; received: '  ' for class 1"),
        (["dog", 3], "non-empty text; received: 3 for class 1"),
        (["dog", "rain", "dog"], "must be unique; received: 'dog' for classes 0 and 2"),
        ("dog", "must be a list of class names; received: 'dog'"),
    ],
)
def test_invalid_names_are_rejected(names, message):
    with pytest.raises(ValueError, match=message):
        LabelSet.from_names(names)


def test_identifiers_and_names_must_have_equal_lengths():
    with pytest.raises(ValueError, match="equal lengths; received: 1 and 2"):
        LabelSet(("/m/1",), ("a", "b"))


def test_both_forms_of_class_lists_are_read(tmp_path):
    official, column = tmp_path / "official.csv", tmp_path / "column.txt"
    official.write_text('index,mid,display_name\n0,/m/1,"Dog, bark"\n1,/m/2,Rain\n', encoding="utf-8")
    column.write_bytes("\ufeffDog, bark\r\n\r\nBébé qui pleure\r\n".encode())
    assert LabelSet.from_csv(official) == LabelSet(("/m/1", "/m/2"), ("Dog, bark", "Rain"))
    assert LabelSet.from_csv(column).names == ("Dog, bark", "Bébé qui pleure")
    column.write_text("INDEX;MID;Display_Name\n0;/m/1;Dog\n", encoding="utf-16")
    assert LabelSet.from_csv(column) == LabelSet(("/m/1",), ("Dog",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one class"),
        (b"index,mid,display_name\n", "at least one class"),
        (b"index,mid,display_name\n0,/m/1\n", "line 2: must have 3 columns; received: 2"),
        (b"index,mid,display_name\n1,/m/1,Dog\n", "line 2: index must be 0; received: '1'"),
        (b"index,mid,display_name\n0,/m/1,Dog\n1,/m/2,Dog\n", "`names` must be unique; received: 'Dog'"),
        (b"index,mid,display_name\n0,/m/1,Dog\n1,/m/1,Cat\n", "`mids` must be unique; received: '/m/1'"),
        (b"index,mid,display_name\n0,/m/1,\n", "`names` must contain non-empty text"),
        (b'index,mid,display_name\n0,/m/1,Dog\n1,/m/2,"Cat\n', "line 3: a quote is not closed"),
        (b"dog\ncat" + b"t" * 200_000, "line 2: .* a cell has more than 131,072 characters"),
        (b"dog\nca\0t", "line 2: must be a text file without NUL characters"),
        (b"path,label\nx,y\n", "line 1: must be one class name .*; received: 'path,label'"),
        (b"dog\n\x81\n", "line 2: must be a text file in UTF-8"),
    ],
)
def test_an_invalid_class_list_is_rejected_with_file_and_line(tmp_path, content, message):
    path = tmp_path / "classes.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"classes\.csv: .*{message}"):
        LabelSet.from_csv(path)


def test_a_missing_class_list_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
        LabelSet.from_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\x9b2J", "a\u2028b", "\udcff"])
def test_names_that_could_change_a_terminal_or_end_a_line_are_rejected(name):
    with pytest.raises(ValueError, match="`mids` must have no control characters; received: .* for class 1"):
        LabelSet.from_names(["Bark", name])
