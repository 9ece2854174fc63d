"""Tables of labels: every format is recognized and read, and every invalid line is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag._csv import TextWarning
from kerastag.label_tables import RecordingIndex, read_label_table
from kerastag.labels import LabelSet

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def read(tmp_path, content, name="list.csv", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_label_table(path, **options)
    return table.format, [
        (row.recording, row.labels, *(() if row.onset is None else (row.onset, row.offset))) for row in table.rows
    ]


@pytest.mark.parametrize(
    ("text", "expected_format", "rows"),
    [
        (
            "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n",
            "ESC-50",
            [("1-1-A-0.wav", ("dog",))],
        ),
        (
            "slice_file_name,fsID,start,end,salience,fold,classID,class\n1-3-0-0.wav,1,5.5,9.5,1,5,3,dog_bark\n",
            "UrbanSound8K",
            [("1-3-0-0.wav", ("dog_bark",))],
        ),
        (
            'fname,labels,mids,split\n64760,"Guitar,Musical_instrument,Music","/m/1,/m/2,/m/3",train\n',
            "FSD50K",
            [("64760", ("Guitar", "Musical_instrument", "Music"))],
        ),
        (
            "filename\tevent_labels\na.wav\tSpeech,Dog\nb.wav\tSpeech, Dog\nc.wav\tChild speech, kid speaking,Dog\n",
            "DCASE weak labels",
            [
                ("a.wav", ("Speech", "Dog")),
                ("b.wav", ("Speech", "Dog")),
                ("c.wav", ("Child speech, kid speaking", "Dog")),
            ],
        ),
        (
            "filename\tonset\toffset\tevent_label\na.wav\t0.5\t2\tDog\nb.wav\t\t\t\n",
            "DCASE strong labels",
            [("a.wav", ("Dog",), 0.5, 2.0), ("b.wav", ())],
        ),
        (
            f"{RAVEN}\tSpecies\r\n1\tSpectrogram 1\t1\t0.1\t0.9\t200\t900\tDog\r\n",
            "Raven selection table",
            [("", ("Dog",), 0.1, 0.9)],
        ),
        (
            f"{RAVEN}\tBegin Path\tFile Offset (s)\tSong\n1\tS\t1\t61.5\t62\t1\t2\tC:\\x\\b.wav\t1.5\tDog, wet\n",
            "Raven selection table",
            [("C:\\x\\b.wav", ("Dog, wet",), 1.5, 2.0)],
        ),
        (
            "0,5\t2,25\tDog\n\\\t100.0\t900.0\n3.0\t3.0\tRain; Dog\n0.1\t0.1\tRain\n",
            "Audacity label track",
            [("", ("Dog",), 0.5, 2.25), ("", ("Rain", "Dog"), 2.5, 3.5), ("", ("Rain",), 0.0, 0.6)],
        ),
        (
            '# Segments csv\n--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n',
            "AudioSet segments",
            [("--PJHxphWEs", ("/m/09x0r", "/t/dd00088"))],
        ),
        ("a.wav;Dog\nb.wav;Rain\n", "table without a header", [("a.wav", ("Dog",)), ("b.wav", ("Rain",))]),
        ("x/a.wav\t0\t1.5\tDog\n", "table without a header", [("x/a.wav", ("Dog",), 0.0, 1.5)]),
        (
            "Start (s),End (s),Common name,File\n0,3,Great Tit,a.wav\n",
            "table with the columns File and Common name",
            [("a.wav", ("Great Tit",), 0.0, 3.0)],
        ),
    ],
)
def test_each_format_is_recognized_by_its_first_line(tmp_path, text, expected_format, rows):
    assert read(tmp_path, text) == (expected_format, rows)


@pytest.mark.parametrize(
    "content",
    [
        "path,labels\na.wav,Dog|Rain\nb.wav,Cat\n",
        "PATH, Labels \r\n\r\na.wav, Dog; Rain\r\n  ,\r\nb.wav, Cat \r\n",
        "sep=;\r\npath;labels;notes\r\na.wav;Dog|Rain;x\r\nb.wav;Cat\r\n",
        '\ufeffnotes\tpath\tlabels\n"a, b"\ta.wav\tDog,Rain\n\tb.wav\tCat\t\t\n',
        "path;labels\ra.wav;Dog,Rain\rb.wav;Cat\r",
        "notes|path|labels\n|a.wav|Dog;Rain\n|b.wav|Cat\n",
        'path,labels,notes\na.wav,Dog;Rain,"two\nlines, and a ""quote"""\nb.wav,Cat,',
        "path,labels\na.wav,Dog;Rain\nb.wav,Cat\n".encode("utf-16"),
        b"\xfe\xff" + "path\tlabels\r\na.wav\tDog;Rain\r\nb.wav\tCat\r\n".encode("utf-16-be"),
    ],
)
def test_tables_are_read_whatever_their_delimiter_encoding_and_line_ends(tmp_path, content):
    assert read(tmp_path, content)[1] == [("a.wav", ("Dog", "Rain")), ("b.wav", ("Cat",))]


def test_a_table_in_the_encoding_of_excel_on_windows_is_read_with_a_warning(tmp_path):
    content = "Dateiname;filename;labels\r\n1;Möwe.wav;Grünspecht – Ruf\r\n".encode("cp1252")
    with pytest.warns(TextWarning, match=r"list\.csv: not UTF-8, read as Windows-1252$"):
        _, rows = read(tmp_path, content)
    assert rows == [("Möwe.wav", ("Grünspecht – Ruf",))]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("Child speech, kid speaking", ("Child speech, kid speaking",)),
        ("Dog, barking", ("Dog, barking",)),
        ("Dog, barking;Rain", ("Dog, barking", "Rain")),
        ("Rain,Dog, barking", ("Rain", "Dog, barking")),
        ("Rain, mine", ("Rain", "mine")),  # both are classes of their own
        ("mine,yours", ("mine", "yours")),
        ("Rain;Rain", ("Rain",)),
    ],
)
def test_a_comma_belongs_to_a_name_unless_it_separates_classes(tmp_path, cell, labels):
    assert read(tmp_path, f'path,labels\na.wav,"{cell}"\nb.wav,mine\nc.wav,Rain\n')[1][0] == ("a.wav", labels)


def test_columns_and_separators_can_be_given(tmp_path):
    text = "who,sound file,what\nme,a.wav,Dog / Rain\n"
    options = {"path_column": "Sound file", "label_column": "what", "separator": "/"}
    assert read(tmp_path, text, **options)[1] == [("a.wav", ("Dog", "Rain"))]
    assert read(tmp_path, "path#labels\na.wav#Dog\n", separator="#")[1] == [("a.wav", ("Dog",))]
    two_names = LabelSet.from_names(["Dog / Rain", "Cat"])
    assert read(tmp_path, text, **options, classes=two_names)[1] == [("a.wav", ("Dog / Rain",))]
    with pytest.raises(ValueError, match="line 1: `label_column` must be one of who, sound file, what; received: 'x'"):
        read(tmp_path, text, label_column="x")
    with pytest.raises(ValueError, match="`separator` must be at least one character"):
        read(tmp_path, text, separator="")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,fold\n", "line 1: must name columns of files and of labels"),
        ("", "line 1: must name columns of files and of labels"),
        ("x," * 2_000_000, "line 1: must have at most 1,000 columns; received: 2,000,001"),
        ('path,labels\na.wav,dog\nb.wav,"dog\nc.wav,cat\n', "line 3: a quote is not closed"),
        ('path,labels\na.wav,dog\nb.wav,"dog', "line 3: a quote is not closed"),
        (f'path,labels\n"{"0" * 200_000}\n', "line 2: a quote is not closed, or a cell has more than 131,072"),
        ("path,labels\na\0.wav,dog\n", "line 2: must be a text file without NUL characters"),
        (b"path,labels\n\x81.wav,dog\n", "line 2: must be a text file in UTF-8 or UTF-16"),
        ("path,labels\né.wav,dog\n".encode()[:-3] + b"\xe9", "line 2: must be a text file in UTF-8 or UTF-16"),
        (b"path,labels\n\xff\x01.wav,dog\n", "line 2: must be a text file in UTF-8 or UTF-16"),
        ("path,labels\na.wav,\n", "line 2: column labels is empty"),
        ("path,labels\n,dog\n", "line 2: column path is empty"),
        ("path,labels\na.wav,dog,cat\n", "line 2: must have 2 columns; received: 3; quote cells that hold commas"),
        ("path,labels\na.wav,dog;;cat\n", "line 2: labels must not be empty; received: 'dog;;cat'"),
        ("filename\tonset\toffset\tevent_label\na.wav\tx\t1\tdog\n", "line 2: onset and offset must be seconds"),
        ("filename\tonset\toffset\tevent_label\na.wav\t1\t1\tdog\n", "line 2: onset must be at least 0 and offset"),
        ("filename\tonset\toffset\tevent_label\na.wav\t0\tnan\tdog\n", "line 2: onset must be at least 0 and offset"),
        (f"{RAVEN}\tA\tB\n", "line 1: must name columns of files and of labels, such as path,labels, or `path_column`"),
        ("1.0\tx\tDog\n", "must name columns"),
        ("1.0\t2.0\tDog\n3.0\tx\tDog\n", "line 2: onset and offset must be seconds; received: 'x'"),
        ('--PJHxphWEs, 30, 40, "/m/1"\n0abcdefghij, 0, 10\n', "line 2: must be `YTID, start, end, MIDs`"),
        ('{"a": 1}', "the file: must be an export of Whombat; received: KeyError: 'data'"),
        ('{"a": ', "the file: must be an export of Whombat"),
        (f'{{"data": {"9" * 5_000}}}', "the file: must be an export of Whombat"),
        ('{"a":' * 100_000, "the file: must be an export of Whombat"),
    ],
)
def test_an_invalid_table_is_one_line_with_file_and_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, content)
    assert str(raised.value).startswith(f"{tmp_path}/list.csv: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.filterwarnings("ignore::kerastag._csv.TextWarning")
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(range(5)))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_give_a_table_or_one_line_that_names_the_file(tmp_path_factory, content, position, number):
    """The bytes replace a part of a valid table."""
    table = [
        b"path,labels\na.wav,dog;cat\nb.wav,rain\n",
        b"filename\tonset\toffset\tevent_label\na.wav\t0.5\t2\tDog\n",
        b"0.5\t2.25\tDog\n",
        b'--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n',
        json.dumps(make_whombat_export()).encode(),
    ][number]
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(table[:position] + content + table[position + len(content) :])
    try:
        rows = read_label_table(path).rows
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(row.onset is None or 0 <= row.onset < row.offset for row in rows)


def make_whombat_export():
    """Return an export with labels of two sound events, of a clip and of a recording."""
    geometries = [
        {"type": "BoundingBox", "coordinates": [0.5, 100, 1.5, 900]},
        {"type": "LineString", "coordinates": [[2.0, 500], [2.5, 800], [2.25, 700]]},
        {"type": "TimeInterval", "coordinates": [3.0, 4.0]},
        {"type": "TimeStamp", "coordinates": 6.0},
    ]
    return {
        "version": "1.1.0",
        "data": {
            "collection_type": "annotation_project",
            "tags": [
                {"id": 0, "key": "species", "value": "Fox"},
                {"id": 1, "key": "device", "value": "CM16"},
                {"id": 2, "key": "species", "value": "Owl"},
            ],
            "recordings": [
                {"uuid": "r", "path": "/audio/a.wav", "time_expansion": None, "tags": [1, 2]},
                {"uuid": "s", "path": "b.wav", "time_expansion": 10},
            ],
            "clips": [{"uuid": "c", "recording": "s", "start_time": 0, "end_time": 0.5}],
            "sound_events": [{"uuid": f"e{i}", "recording": "r", "geometry": g} for i, g in enumerate(geometries)],
            "sound_event_annotations": [
                {"uuid": f"a{i}", "sound_event": f"e{i}", "tags": [0, 1]} for i in range(len(geometries))
            ],
            "clip_annotations": [{"uuid": "x", "clip": "c", "tags": [2]}],
        },
    }


def test_exports_of_whombat_are_read(tmp_path):
    export = make_whombat_export()
    times = [(0.5, 1.5), (2.0, 2.5), (3.0, 4.0), (5.5, 6.5)]
    expected = [("/audio/a.wav", ("Fox",), *bounds) for bounds in times]
    assert read(tmp_path, json.dumps(export)) == ("Whombat export", expected)
    assert read(tmp_path, json.dumps(export), label_column="device")[1][0][1] == ("CM16",)
    del export["data"]["sound_event_annotations"]
    assert read(tmp_path, json.dumps(export))[1] == [("b.wav", ("Owl",), 0.0, 5.0)]
    del export["data"]["clip_annotations"]
    assert read(tmp_path, json.dumps(export))[1] == [("/audio/a.wav", ("Owl",))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["sound_events"].clear(), "sound_event_annotations 0: must be an export of Whombat"),
        (lambda data: data["sound_events"][1].update(geometry=[]), "sound_event_annotations 1: must be an export"),
        (lambda data: data["sound_events"][0]["geometry"].update(coordinates=["a", 1, "b", 1]), "annotations 0: must"),
        (lambda data: data["sound_event_annotations"][0].update(tags=[7]), "sound_event_annotations 0: must be"),
        (lambda data: data["recordings"].clear(), "sound_event_annotations 0: must be an export of Whombat"),
        (lambda data: data.update(tags=3), "the file: must be an export of Whombat"),
        (
            lambda data: [tag.update(key=f"k{tag['id']}") for tag in data["tags"]],
            "`label_column` must be the key of the tags of a class, one of k0, k1",
        ),
    ],
)
def test_an_invalid_export_of_whombat_is_named_with_its_record(tmp_path, change, message):
    export = make_whombat_export()
    change(export["data"])
    with pytest.raises(ValueError, match=message):
        read(tmp_path, json.dumps(export))


def test_recordings_are_looked_up_by_the_names_of_other_computers():
    index = RecordingIndex(["dev/caf\u0065\u0301.wav", "dev/1.wav", "test/1.wav", "2.WAV", "test/2.WAV"])
    assert index.find("dev\\caf\u00e9.wav") == 0
    assert index.find("caf\u00e9") == 0
    assert index.find("C:\\Users\\me\\dev\\1.wav") == 1
    assert index.find("/home/me/test/1.wav") == 2
    assert index.find("./2.WAV") == 3
    assert index.find("other/2.WAV") is None  # a relative folder counts
    assert index.find("3.wav") is None
    with pytest.raises(ValueError, match=r"'1\.wav' must be the name of one recording; .* of dev/1\.wav and test/1"):
        index.find("1.wav")


@pytest.mark.parametrize("name", ["b.1.txt", "b.1.Table.1.selections.txt", "b.1_labels.txt", "b.1.wav.txt"])
def test_a_table_without_names_describes_the_recording_that_it_is_named_after(tmp_path, name):
    index = RecordingIndex(["b.wav", "x/b.1.wav"])
    assert index.find_table(tmp_path / name) == 1
    assert index.find_table(tmp_path / "c.txt") is None
    assert RecordingIndex(["only.wav"]).find_table(tmp_path / "c.txt") == 0
