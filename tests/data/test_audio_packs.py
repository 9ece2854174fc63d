"""Packs of waveforms: what is written is read, interrupted calls are resumed, and damage gives a clear error."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from checks import ROOT
from kerastag import audio
from kerastag.__main__ import main
from kerastag.data import audio_pack_writer
from kerastag.data.audio_lists import AudioList, Recording, read_class_folders
from kerastag.data.audio_pack_writer import convert_to_int16, pack_audio, pack_waveforms
from kerastag.data.packs import AudioPack
from kerastag.labels import LabelSet

RATE = 8_000


@pytest.fixture
def tree(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "sounds"
    for name, seconds, rate in (
        ("cat/a", 1.0, RATE),
        ("cat/b", 0.25, RATE),
        ("dog/c", 2.0, RATE),
        ("dog/d", 1.0, 16_000),
    ):
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * random.uniform(-1, 1, round(seconds * rate)), rate)
    return root


def pack_tree(tree, output, **options):
    options = {"sample_rate": RATE, "clip_seconds": 1.0, "progress": False, **options}
    return pack_audio(read_class_folders(tree), output, **options)


def test_waveforms_are_read_as_they_were_written(tree, tmp_path):
    report = pack_tree(tree, tmp_path / "train.h5", attributes={"license": "CC0"})
    assert (report.num_clips, report.num_classes, report.truncated) == (4, 2, 1)
    assert not (tmp_path / "train.h5.partial").exists()
    with AudioPack(tmp_path / "train.h5") as pack:
        waveforms, lengths, targets = pack.rows([3, 1, 1, 2])
        assert waveforms.dtype == np.int16
        assert lengths.tolist() == [RATE, RATE // 4, RATE // 4, RATE]
        assert targets.tolist() == [[False, True], [True, False], [True, False], [False, True]]
        assert pack.ids.tolist() == [b"cat/a.wav", b"cat/b.wav", b"dog/c.wav", b"dog/d.wav"]
        assert pack.attributes["license"] == "CC0"
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


def test_panns_own_packs_are_read_as_they_are(tmp_path):
    with h5py.File(tmp_path / "panns.h5", "w") as file:
        file["audio_name"] = np.array([b"Y0.wav", b"Y1.wav"], "S20")
        file["waveform"] = np.arange(20, dtype=np.int16).reshape(2, 10)
        file["target"] = np.eye(2, dtype=bool)
        file.attrs["sample_rate"] = np.int32(32_000)
    with AudioPack(tmp_path / "panns.h5") as pack:
        assert pack.lengths.tolist() == [10, 10]
        assert pack.sample_rate == 32_000
        np.testing.assert_array_equal(pack.rows([1, 0])[0], [range(10, 20), range(10)])


def test_a_corrupt_file_is_an_error_or_is_skipped_and_named(tree, tmp_path):
    (tree / "dog/bad.wav").write_bytes(b"RIFF not audio at all")
    with pytest.raises(ValueError, match=r"dog/bad\.wav: must be audio"):
        pack_tree(tree, tmp_path / "train.h5")
    assert not (tmp_path / "train.h5").exists()
    report = pack_tree(tree, tmp_path / "train.h5", skip_corrupt=True)
    assert report.num_clips == 4
    assert len(report.skipped) == 1
    assert "bad.wav" in report.skipped[0]
    with h5py.File(tmp_path / "train.h5") as file:
        assert b"bad.wav" in file["skipped"][0]
    for path in tree.rglob("*.wav"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="none of 5 recordings can be read; the first one: "):
        pack_tree(tree, tmp_path / "other.h5", skip_corrupt=True)


def test_an_interrupted_call_is_resumed_and_gives_the_same_pack(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 1)
    pack_tree(tree, tmp_path / "whole.h5")
    load, loaded_names = audio.load, []

    def load_until_interrupted(path, *arguments, **options):
        loaded_names.append(path.name)
        if len(loaded_names) == 3:
            raise KeyboardInterrupt
        return load(path, *arguments, **options)

    monkeypatch.setattr(audio, "load", load_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_tree(tree, tmp_path / "train.h5")
    assert (tmp_path / "train.h5.partial").exists()
    pack_tree(tree, tmp_path / "train.h5")
    assert loaded_names == ["a.wav", "b.wav", "c.wav", "c.wav", "d.wav"]
    with AudioPack(tmp_path / "whole.h5") as whole, AudioPack(tmp_path / "train.h5") as train:
        for a, b in zip(whole.rows(range(4)), train.rows(range(4)), strict=True):
            np.testing.assert_array_equal(a, b)


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


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_gives_an_error_of_one_line(tree, tmp_path):
    soundfile.write(tree / "dog/long.wav", np.random.default_rng(0).uniform(-1, 1, 20 * 16_000), 16_000)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from kerastag.__main__ import main\n"
        f"sys.exit(main(['pack', 'audio', '--audio_dir', {str(tree)!r}, '--output', {str(tmp_path / 'p.h5')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "the disk is full: make room and run the same command again" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("target"), "key target is missing: not a pack of waveforms"),
        (lambda f: (f.__delitem__("waveform"), f.update(waveform=np.zeros((4, 9)))), "key waveform: must be int16"),
        (
            lambda f: (f.__delitem__("target"), f.update(target=np.zeros((3, 2), bool))),
            "key target: must be \\(4, classes\\) as waveform; received",
        ),
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


def test_missing_and_truncated_packs_are_refused(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.h5: no such file"):
        AudioPack(tmp_path / "none.h5")
    pack_tree(tree, tmp_path / "train.h5")
    whole = (tmp_path / "train.h5").read_bytes()
    (tmp_path / "train.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not an HDF5 file, truncated or damaged"):
        AudioPack(tmp_path / "train.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sample_rate": 10}, "`sample_rate` must be"), ({"clip_seconds": 0}, "`clip_seconds` must be")],
)
def test_arguments_out_of_range_are_refused(tree, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        pack_tree(tree, tmp_path / "train.h5", **options)
    with pytest.raises(ValueError, match=r"`output` must end in \.h5"):
        pack_tree(tree, tmp_path / "train.npz")


def test_the_command_counts_and_lists_missing_files(tree, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("path,labels\ncat/a.wav,cat\ngone.wav,dog;cat\n")
    arguments = ["--audio_dir", str(tree), "--labels", str(tmp_path / "list.csv"), "--output", str(tmp_path / "p.h5")]
    assert main(["pack", "audio", *arguments, "--sample_rate", "8000", "--clip_seconds", "1"]) == 0
    output = capsys.readouterr()
    assert "p.h5: 1 clips, 2 classes, 1 missing" in output.out
    assert "missing: gone.wav" in output.err


def test_waveforms_of_a_function_are_packed_and_an_interrupted_call_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 2)
    clips = tuple(Recording(Path(f"{i}.wav"), f"{i}.wav", (i % 2,)) for i in range(6))
    recordings = AudioList(clips, LabelSet.from_names(["even", "odd"]), (), "synthetic")
    made_numbers = []

    def make_waveform(i, last=3):
        made_numbers.append(i)
        if i > last:
            raise KeyboardInterrupt
        return np.full(80, i / 10)

    options = {"sample_rate": RATE, "clip_seconds": 0.01, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        pack_waveforms(recordings, make_waveform, tmp_path / "synthetic.h5", fingerprint="seed 0", **options)
    made_numbers.clear()
    report = pack_waveforms(
        recordings, lambda i: make_waveform(i, 9), tmp_path / "synthetic.h5", fingerprint="seed 0", **options
    )
    assert sorted(made_numbers) == [4, 5]
    assert report.num_clips == 6
    with AudioPack(report.path) as pack:
        np.testing.assert_array_equal(pack.rows(range(6))[0][:, 7], convert_to_int16(np.arange(6) / 10))
        assert pack.targets[:, 1].tolist() == [False, True] * 3
    with pytest.raises(KeyboardInterrupt):
        pack_waveforms(recordings, make_waveform, tmp_path / "synthetic.h5", fingerprint="seed 0", **options)
    made_numbers.clear()
    pack_waveforms(
        recordings, lambda i: make_waveform(i, 9), tmp_path / "synthetic.h5", fingerprint="seed 1", **options
    )
    assert sorted(made_numbers) == list(range(6))
