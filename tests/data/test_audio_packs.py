"""Packs of waveforms: what is written is read, interrupted calls are resumed, and damage gives a clear error."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.__main__ import main
from kerastag.data import audio_pack_writer
from kerastag.data.audio_list_reading import read_class_folders
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.audio_pack_writer import convert_to_int16, pack_audio, pack_waveforms
from kerastag.data.packs import AudioPack
from kerastag.labels import LabelSet

RATE = 8_000


@pytest.fixture
def tree(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "sounds"
    sounds = {"cat/a": (1.0, RATE), "cat/b": (0.25, RATE), "dog/c": (2.0, RATE), "dog/d": (1.0, 16_000)}
    for name, (seconds, rate) in sounds.items():
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * random.uniform(-1, 1, round(seconds * rate)), rate)
    return root


def pack_tree(tree, output, **options):
    options = {"sample_rate": RATE, "clip_seconds": 1.0, "progress": False, **options}
    return pack_audio(read_class_folders(tree), output, **options)


def test_waveforms_are_read_as_they_were_written(tree, tmp_path):
    report = pack_tree(tree, tmp_path / "train.h5")
    assert (report.num_clips, report.num_classes, report.truncated) == (4, 2, 1)
    assert not (tmp_path / "train.h5.partial").exists()
    with AudioPack(tmp_path / "train.h5") as pack:
        waveforms, lengths, targets = pack.rows([3, 1, 1, 2])
        assert waveforms.dtype == np.int16
        assert lengths.tolist() == [RATE, RATE // 4, RATE // 4, RATE]
        assert targets.tolist() == [[False, True], [True, False], [True, False], [False, True]]
        assert pack.ids.tolist() == [b"cat/a.wav", b"cat/b.wav", b"dog/c.wav", b"dog/d.wav"]
        assert pack.sample_rate == RATE
        assert json.loads(pack.attributes["class_names"]) == ["cat", "dog"]
        expected = convert_to_int16(audio.load(tree / "cat/b.wav", RATE))
        np.testing.assert_array_equal(waveforms[1, : len(expected)], expected)
        assert not waveforms[1, len(expected) :].any()
        np.testing.assert_array_equal(waveforms[3], convert_to_int16(audio.load(tree / "dog/c.wav", RATE)[:RATE]))
        crops = pack.crops(np.array([0, 2]), np.array([100, RATE - 10]), 50)
        np.testing.assert_array_equal(crops[0], pack.rows([0])[0][0, 100:150])
        np.testing.assert_array_equal(crops[1, :10], pack.rows([2])[0][0, -10:])
        assert not crops[1, 10:].any()
        with pytest.raises(IndexError, match=r"`indices` must be in \[0, 4\); received: 4"):
            pack.rows([4])


def test_a_corrupt_file_is_an_error_or_is_skipped_and_named(tree, tmp_path):
    (tree / "dog/bad.wav").write_bytes(b"RIFF not audio at all")
    with pytest.raises(ValueError, match=r"dog/bad\.wav: must be audio"):
        pack_tree(tree, tmp_path / "train.h5")
    assert not (tmp_path / "train.h5").exists()
    report = pack_tree(tree, tmp_path / "train.h5", skip_corrupt=True)
    assert report.num_clips == 4
    assert len(report.skipped) == 1
    assert "bad.wav" in report.skipped[0]
    assert report.lost_classes == ()
    with h5py.File(tmp_path / "train.h5") as file:
        assert b"bad.wav" in file["skipped"][0]
    for path in (tree / "cat").rglob("*.wav"):
        path.write_bytes(b"x")
    report = pack_tree(tree, tmp_path / "dogs.h5", skip_corrupt=True)
    assert str(report).endswith(" 3 skipped; no recording can be read of cat")
    for path in tree.rglob("*.wav"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="none of 5 recordings can be read; the first one: "):
        pack_tree(tree, tmp_path / "other.h5", skip_corrupt=True)


def test_an_interrupted_call_is_resumed_and_gives_the_same_pack(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 1)
    pack_tree(tree, tmp_path / "whole.h5")
    load, loaded_names = Recording.load_waveform, []

    def load_until_interrupted(recording, *arguments):
        loaded_names.append(recording.path.name)
        if len(loaded_names) == 3:
            raise KeyboardInterrupt
        return load(recording, *arguments)

    monkeypatch.setattr(Recording, "load_waveform", load_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_tree(tree, tmp_path / "train.h5")
    assert (tmp_path / "train.h5.partial").exists()
    pack_tree(tree, tmp_path / "train.h5")
    assert loaded_names == ["a.wav", "b.wav", "c.wav", "c.wav", "d.wav"]
    assert (tmp_path / "train.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sounds", "train.h5", "whole.h5"]


def test_a_partial_pack_of_other_files_is_started_again(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 1)
    (tree / "dog/z.wav").write_bytes(b"bad")
    with pytest.raises(ValueError, match="z.wav"):
        pack_tree(tree, tmp_path / "train.h5")
    soundfile.write(tree / "cat/a.wav", np.full(RATE, 0.5), RATE)
    (tree / "dog/z.wav").unlink()
    assert pack_tree(tree, tmp_path / "train.h5").num_clips == 4
    with AudioPack(tmp_path / "train.h5") as pack:
        assert (pack.rows([0])[0] == round(0.5 * 32767)).all()


def test_a_partial_pack_without_the_corrupt_files_is_not_resumed_if_they_are_errors(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 1)
    (tree / "cat/aa.wav").write_bytes(b"bad")
    load = Recording.load_waveform

    def load_until_interrupted(recording, *arguments):
        if recording.path.name == "d.wav":
            raise KeyboardInterrupt
        return load(recording, *arguments)

    monkeypatch.setattr(Recording, "load_waveform", load_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_tree(tree, tmp_path / "train.h5", skip_corrupt=True)
    monkeypatch.setattr(Recording, "load_waveform", load)
    assert (tmp_path / "train.h5.partial/checkpoint.json").exists()
    with pytest.raises(ValueError, match=r"aa\.wav"):
        pack_tree(tree, tmp_path / "train.h5")


def test_a_full_disk_gives_an_error_of_one_line(tree, tmp_path, limit_file_size, capsys):
    soundfile.write(tree / "dog/long.wav", np.random.default_rng(0).uniform(-1, 1, 20 * 16_000), 16_000)
    limit_file_size(100_000)
    assert main(["pack", "audio", "--audio-dir", str(tree), "--output", str(tmp_path / "p.h5")]) == 1
    errors = capsys.readouterr().err
    assert "the disk is full: make room and run the same command again" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("target"), "key target is missing: not a pack of waveforms"),
        (lambda f: (f.__delitem__("waveform"), f.update(waveform=np.zeros((4, 9)))), "key waveform: must be int16"),
        (
            lambda f: f["num_samples"].write_direct(np.full(4, 99_999, np.int32)),
            "key num_samples, row 0: must be in \\[1, 8000\\]",
        ),
    ],
)
def test_the_faulty_dataset_of_a_foreign_pack_is_named(tree, tmp_path, change, message):
    pack_tree(tree, tmp_path / "train.h5")
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file.update = lambda **values: [file.__setitem__(k, v) for k, v in values.items()]
        change(file)
    with pytest.raises(ValueError, match=message):
        AudioPack(tmp_path / "train.h5")


def test_arguments_out_of_range_are_refused(tree, tmp_path):
    for name, value in (("sample_rate", 10), ("clip_seconds", 0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            pack_tree(tree, tmp_path / "train.h5", **{name: value})
    with pytest.raises(ValueError, match=r"`output` must end in \.h5"):
        pack_tree(tree, tmp_path / "train.npz")


def test_the_command_counts_and_lists_missing_files(tree, tmp_path, capsys):
    (tmp_path / "list.csv").write_text(
        "path,labels\ncat/a.wav,cat\ndog/c.wav,dog\ngone.wav,dog;cat\n", encoding="utf-8"
    )
    arguments = ["--audio_dir", str(tree), "--labels", str(tmp_path / "list.csv"), "--output", str(tmp_path / "p.h5")]
    assert main(["pack", "audio", *arguments, "--sample_rate", "8000", "--clip_seconds", "1"]) == 0
    output = capsys.readouterr()
    assert "p.h5: 2 clips, 2 classes, 1 truncated, 1 missing" in output.out
    assert "missing: gone.wav" in output.err


def test_waveforms_of_a_function_are_packed(tmp_path):
    clips = tuple(Recording(Path(f"{i}.wav"), f"{i}.wav", (i % 2,)) for i in range(6))
    recordings = AudioList(clips, LabelSet.from_names(["even", "odd"]), (), "synthetic")
    options = {"sample_rate": RATE, "clip_seconds": 0.01, "progress": False, "attributes": {"license": "CC0"}}
    path = tmp_path / "synthetic.h5"
    assert pack_waveforms(recordings, lambda i: np.full(80, i / 10), path, fingerprint="", **options).num_clips == 6
    with AudioPack(path) as pack:
        np.testing.assert_array_equal(pack.rows(range(6))[0][:, 7], convert_to_int16(np.arange(6) / 10))
        assert pack.targets[:, 1].tolist() == [False, True] * 3
        assert pack.attributes["license"] == "CC0"


def test_labeled_parts_of_recordings_are_packed(tree, tmp_path, capsys):
    table = "filename\tonset\toffset\tevent_label\ncat/a.wav\t0.25\t0.75\tpurr\ndog/c.wav\t0\t2\tbark\n"
    (tmp_path / "events.tsv").write_text(table, encoding="utf-8")
    command = ["pack", "audio", "--audio-dir", str(tree), "--labels", str(tmp_path / "events.tsv")]
    options = ["--sample-rate", str(RATE), "--clip-seconds", "1", "--output"]
    assert main([*command, *options, str(tmp_path / "cut.h5")]) == 0
    captured = capsys.readouterr()
    assert "events.tsv: DCASE strong labels: 2 labeled parts, 2 recordings, 2 classes" in captured.err
    assert captured.out == f"{tmp_path}/cut.h5: 2 clips, 2 classes, 1 truncated\n"
    with AudioPack(tmp_path / "cut.h5") as pack:
        waveforms, lengths, targets = pack.rows([0, 1])
        assert pack.ids.tolist() == [b"cat/a_0.250_0.750.wav", b"dog/c_0.000_2.000.wav"]
        assert (lengths.tolist(), targets.tolist()) == ([RATE // 2, RATE], [[False, True], [True, False]])
        expected = convert_to_int16(audio.load(tree / "cat/a.wav", RATE)[RATE // 4 : RATE * 3 // 4])
        np.testing.assert_array_equal(waveforms[0, : RATE // 2], expected)
    assert main([*command, "--excerpts", "mask", *options, str(tmp_path / "mask.h5")]) == 0
    with AudioPack(tmp_path / "mask.h5") as pack:
        waveform = pack.rows([0])[0][0]
        assert not waveform[: RATE // 4].any()
        np.testing.assert_array_equal(waveform[RATE // 4 : RATE * 3 // 4], expected)


def test_the_columns_of_a_list_can_be_named(tree, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("sound;what it is\ncat/a.wav;cat / dog\n", encoding="utf-8")
    command = [
        "pack",
        "audio",
        "--audio-dir",
        str(tree),
        "--labels",
        str(tmp_path / "list.csv"),
        "--sample-rate",
        "8000",
    ]
    columns = ["--sample-rate", "8000", "--path-column", "sound", "--label-column", "what it is", "--separator", " / "]
    assert main([*command, *columns, "--output", str(tmp_path / "a.h5")]) == 0
    assert "1 clips, 2 classes" in capsys.readouterr().out
    assert main([*command, "--output", str(tmp_path / "b.h5")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "list.csv: line 1: must name columns of files and of labels" in line
