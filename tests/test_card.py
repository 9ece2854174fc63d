"""Cards: each format keeps the card and leaves the rest of the model unchanged."""

import dataclasses
import functools
import json
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from checks import run_python
from kerastag.card import MEMBER, Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet

CARD = Card(
    LabelSet(("/m/1", "/m/2"), ("Bärk", "Rain, heavy")),
    sample_rate=32_000,
    window_seconds=10.0,
    seconds_per_frame=0.32,
    front_end=FRONT_ENDS["efficientat"].as_dict(),
    thresholds=(0.25, 0.5),
    thresholds_origin="calibrated on a test",
    origin="a test",
    versions={"kerastag": "0"},
)
EMBEDDER = Card(None, sample_rate=16_000, window_seconds=10.0)


@functools.cache
def make_keras_file():
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
        return path.read_bytes()


def save_keras(folder):
    path = folder / "model.keras"
    path.write_bytes(make_keras_file())
    return path


def save_tflite(folder):
    path = folder / "model.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(range(256)))
    return path


def save_tflite_with_labels(folder):
    path = save_tflite(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "Bark\nRain\n")
    return path


def save_saved_model(folder):
    path = folder / "saved"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"graph")
    return path


FORMATS = [save_keras, save_tflite, save_tflite_with_labels, save_saved_model]


@pytest.mark.parametrize("save_model", FORMATS)
@pytest.mark.parametrize("card", [CARD, EMBEDDER], ids=["tagger", "embedder"])
def test_a_card_is_written_replaced_and_read_in_each_format(save_model, card, tmp_path):
    path = save_model(tmp_path)
    write_card(path, dataclasses.replace(card, origin="the first" * 1000))
    write_card(path, card)
    assert Card.read(path) == card
    assert len(list(tmp_path.iterdir())) == 1  # no temporary file
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist().count(MEMBER) == 1
            assert archive.testzip() is None


def test_keras_loads_the_same_model_with_a_card(tmp_path):
    import keras

    path = save_keras(tmp_path)
    x = np.eye(3, dtype=np.float32)
    before = keras.saving.load_model(path)(x)
    for _ in range(2):
        write_card(path, CARD)
        np.testing.assert_array_equal(keras.saving.load_model(path)(x), before)


def test_a_tflite_file_keeps_its_content_and_its_other_members(tmp_path):
    original = save_tflite(tmp_path).read_bytes()
    path = save_tflite_with_labels(tmp_path)
    for _ in range(2):
        write_card(path, CARD)
        assert path.read_bytes().startswith(original)
        with zipfile.ZipFile(path) as archive:
            assert sorted(archive.namelist()) == [MEMBER, "labels.txt"]
            assert archive.read("labels.txt") == b"Bark\nRain\n"


def test_a_failed_write_leaves_the_model_unchanged(tmp_path, monkeypatch):
    path = save_keras(tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("kerastag.card.shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="No space left"):
        write_card(path, CARD)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_card_keeps_event_rules_and_calibration(tmp_path):
    path = save_tflite(tmp_path)
    card = dataclasses.replace(CARD, event_rules={"offset_ratio": 0.8, "min_seconds": 2.0}, calibration="Platt")
    write_card(path, card)
    assert Card.read(path) == card
    assert card.as_dict()["event_rules"] == {"offset_ratio": 0.8, "min_seconds": 2.0}


def test_a_card_keeps_a_minimum_length_of_each_class(tmp_path):
    path = save_tflite(tmp_path)
    lengths = tuple(float(k) for k in range(len(CARD.labels)))
    card = dataclasses.replace(CARD, event_rules={"min_seconds": list(lengths)})
    write_card(path, card)
    assert Card.read(path) == card
    assert Card.read(path).event_rules["min_seconds"] == lengths
    with pytest.raises(ValueError, match=f"must be one number or {len(lengths)}; received: {len(lengths) + 1}"):
        dataclasses.replace(CARD, event_rules={"min_seconds": [*lengths, 1.0]})


def test_a_card_of_other_classes_keeps_the_values_of_those_that_both_have():
    bark, rain, wind = LabelSet.from_names(["Bark", "Rain", "Wind"]).names
    card = Card(LabelSet.from_names([bark, rain]), 32_000, 10.0, 0.32, thresholds=(0.3, 0.4))
    assert card.with_labels(LabelSet.from_names([wind, rain])).thresholds == (0.1, 0.4)
    assert not card.with_labels(LabelSet.from_names([wind])).event_rules
    rules = {"min_seconds": (1.0, 2.0), "smoothing_seconds": 3.0}
    card = dataclasses.replace(card, event_rules=rules).with_labels(LabelSet.from_names([wind, rain]))
    assert card.event_rules == rules | {"min_seconds": (0.0, 2.0)}


def test_a_card_without_event_rules_is_written_as_older_versions_read_it():
    assert not {"event_rules", "calibration"} & CARD.as_dict().keys()
    assert Card.from_dict(CARD.as_dict()) == CARD


def test_default_thresholds_are_a_tenth():
    assert Card(CARD.labels, 32_000, 10.0).thresholds == (0.1, 0.1)
    assert EMBEDDER.thresholds == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "`labels` must be a LabelSet or None; received: tuple"),
        ({"sample_rate": 0}, "`sample_rate` must be an integer from 1,000 to 1,000,000; received: 0"),
        ({"sample_rate": 10**12}, "`sample_rate` must be .*; received: 1000000000000"),
        ({"sample_rate": 32e3}, "`sample_rate` must be .*; received: 32000.0"),
        ({"window_seconds": 0}, "`window_seconds` must be a number of seconds from 0.001 to 3600; received: 0"),
        ({"window_seconds": "10"}, "`window_seconds` must be .*; received: '10'"),
        ({"seconds_per_frame": float("inf")}, "`seconds_per_frame` must be .*; received: inf"),
        ({"seconds_per_frame": 1e308}, "`seconds_per_frame` must be .*; received: 1e\\+308"),
        ({"seconds_per_frame": 10.1}, "`seconds_per_frame` must be at most 10.0, the window; received: 10.1"),
        ({"seconds_per_frame": 1e-308}, "`seconds_per_frame` must be .*; received: 1e-308"),
        ({"thresholds": (0.1,)}, r"`thresholds` must be one per class, 2; received: 1"),
        ({"thresholds": (0.1, 1.5)}, r"`thresholds` must be in \[0, 1\]; received: 1.5 for Rain, heavy"),
        ({"thresholds": (float("nan"), 0.5)}, r"`thresholds` must be in \[0, 1\]; received: nan for Bärk"),
        ({"thresholds": ([], 0.5)}, r"`thresholds` must be in \[0, 1\]; received: \[\] for Bärk"),
        ({"origin": None}, "`origin` must be text; received: None"),
        ({"versions": {"keras": 3}}, "`versions` must map names to text; received: 3 for 'keras'"),
        ({"front_end": "panns"}, "`front_end` must be a dictionary; received: 'panns'"),
        ({"calibration": None}, "`calibration` must be text; received: None"),
        ({"event_rules": [1]}, r"`event_rules` must be a dictionary; received: \[1\]"),
        (
            {"event_rules": {"min": 1}},
            "`event_rules` must have only offset_ratio, .*; received: 'min'",
        ),
        ({"event_rules": {"offset_ratio": 2}}, r"`offset_ratio` of `event_rules` must be in \[0, 1\]; received: 2"),
        (
            {"event_rules": {"min_seconds": "1"}},
            r"`min_seconds` of `event_rules` must be in .*; received: '1'",
        ),
        ({"event_rules": {"min_seconds": [-1.0]}}, r"`min_seconds` of `event_rules` must be in .*; received: \[-1.0\]"),
        ({"event_rules": {"smoothing_seconds": 1e9}}, r"must be in \[0, 60\]; received: 1000000000.0"),
    ],
)
def test_fields_out_of_range_are_rejected(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CARD, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged card `kerastag.json`: Expecting"),
        ("[]", "`values` must be a dictionary; received: list"),
        ('{"format": 99}', "`format` must be 1; received: 99"),
        ('{"format": 1}', "missing: front_end, labels, origin"),
        (json.dumps({**CARD.as_dict(), "color": 1}), "unknown: color"),
        (
            json.dumps({**CARD.as_dict(), "labels": ["a"]}),
            "`labels` must be a dictionary of the lists `mids` and `names`",
        ),
        (json.dumps({**CARD.as_dict(), "thresholds": 3}), "`thresholds` must be a list; received: int"),
        (json.dumps({**CARD.as_dict(), "labels": {"mids": "ab", "names": ["a", "b"]}}), "of the lists `mids` and"),
        (json.dumps({**CARD.as_dict(), "labels": {"mids": [1], "names": ["a"]}}), "`mids`"),
        (json.dumps({**CARD.as_dict(), "front_end": {"scale": 1}}), "`values` must be the fields of a front end"),
        (json.dumps({**CARD.as_dict(), "front_end": {**CARD.front_end, "floor": "1"}}), "`floor` must be a finite"),
        (json.dumps({**CARD.as_dict(), "front_end": {**CARD.front_end, "num_mel_bins": 10**9}}), "`num_mel_bins` must"),
        (
            json.dumps({**CARD.as_dict(), "labels": {"mids": ["a", "b"], "names": ["a", "\x1b[2J"]}}),
            "control characters",
        ),
        (json.dumps({**CARD.as_dict(), "sample_rate": 16_000}), "`sample_rate` must be that of `front_end`, 32000"),
        ("[" * 100_000, "damaged card"),
        ("0" * 5_000_000, "must have at most 4194304 bytes; received: a larger one"),
    ],
)
def test_a_damaged_card_is_rejected_with_file_and_key(text, message, tmp_path):
    path = save_saved_model(tmp_path)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / MEMBER).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        Card.read(path)
    assert str(error.value).startswith(str(path))


def write_member(path, content, method, claimed_bytes=None):
    """Append a card to a file, with another size in its description than it has."""
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(MEMBER, content)
        if claimed_bytes is not None:
            archive.getinfo(MEMBER).file_size = claimed_bytes


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_card_that_unpacks_to_more_than_it_claims_takes_no_memory(method, tmp_path):
    path = save_tflite(tmp_path)
    write_member(path, bytes(100_000_000), method, claimed_bytes=1_000)
    tracemalloc.start()
    with pytest.raises(ValueError, match="model.tflite: (has no card, or is damaged|card `kerastag.json` must)"):
        Card.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_a_damaged_byte_anywhere_after_the_model_is_one_error_that_names_the_file(tmp_path):
    path = save_tflite(tmp_path)
    write_member(path, json.dumps(CARD.as_dict()), zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    messages = []
    for position in range(len(save_tflite(tmp_path).read_bytes()), len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            Card.read(path)  # Some bytes, such as those of the date, carry nothing.
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(f"{path}: ") for message in messages)


@pytest.mark.parametrize("save_model", [save_tflite, save_tflite_with_labels])
def test_a_changed_byte_of_a_tflite_model_is_detected_by_its_card(save_model, tmp_path):
    path = save_model(tmp_path)
    write_card(path, EMBEDDER)
    write_card(path, CARD)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="model.tflite: damaged: `sha256` of its card must be that of the bytes"):
        Card.read(path)
    write_card(path, CARD)
    assert Card.read(path) == CARD


def test_a_tflite_file_whose_card_has_no_digest_is_read(tmp_path):
    path = save_tflite(tmp_path)
    write_member(path, json.dumps(CARD.as_dict()), zipfile.ZIP_STORED)
    assert Card.read(path) == CARD


def test_a_tflite_file_of_another_project_is_rejected_with_what_can_be_read(tmp_path):
    for save_model in (save_tflite, save_tflite_with_labels):
        path = save_model(tmp_path)
        with pytest.raises(ValueError, match="has no card.*`kerastag export`; of other projects, `kerastag import`"):
            Card.read(path)


def test_models_without_a_card_and_other_files_are_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"has no card \(no `kerastag.json` inside\)"):
        Card.read(save_keras(tmp_path))
    with pytest.raises(ValueError, match=r"saved: has no card \(assets.extra/kerastag.json\)"):
        Card.read(save_saved_model(tmp_path))
    with pytest.raises(FileNotFoundError, match="absent.keras: no such file"):
        Card.read(tmp_path / "absent.keras")
    with pytest.raises(FileNotFoundError, match="absent.keras: no such file"):
        write_card(tmp_path / "absent.keras", CARD)
    (tmp_path / "text.keras").write_text("no model", encoding="utf-8")
    with pytest.raises(ValueError, match="has no card, or is damaged"):
        Card.read(tmp_path / "text.keras")
    with pytest.raises(ValueError, match="must be a .keras or .tflite file; received: another format"):
        write_card(tmp_path / "text.keras", CARD)
    with pytest.raises(ValueError, match="must be a SavedModel; received: a folder without saved_model.pb"):
        write_card(tmp_path, CARD)


def test_a_card_is_read_without_a_framework(tmp_path):
    path = save_tflite(tmp_path)
    write_card(path, CARD)
    code = f"import sys\nfrom kerastag.card import Card\nprint(Card.read({str(path)!r}).labels.names[1])\n"
    assert run_python(code + "print({'keras', 'tensorflow', 'scipy'} & set(sys.modules))") == "Rain, heavy\nset()\n"
