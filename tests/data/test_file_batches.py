"""Training batches that tf.data decodes from recordings are those that are read from a pack."""

import importlib
import json
import shutil

import numpy as np
import pytest
import soundfile

from kerastag.data import AudioFileBatches, BalancedSampler, WaveformBatches, open_pack, pack_audio, read_audio_list
from kerastag.data.batches import mix_up
from kerastag.recipes import cnn10

RATE = 32_000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Write recordings of different formats, sample rates, lengths and numbers of channels."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for k, (name, rate, seconds, channels) in enumerate(
        [("a/1.wav", 32_000, 1.0, 1), ("a/2.flac", 44_100, 1.5, 2), ("a/3.ogg", 32_000, 0.7, 1),
         ("b/4.wav", 16_000, 1.0, 1), ("b/5.flac", 48_000, 0.4, 1), ("b/ü 6.wav", 32_000, 2.0, 2)]
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        time = np.arange(int(rate * seconds)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * k) * time)[:, None]
        soundfile.write(folder / name, tone + 0.01 * random.standard_normal((len(time), channels)), rate)
    return folder


@pytest.fixture(scope="module")
def packs(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    for split in ("bal_train", "eval"):
        pack_audio(read_audio_list(recordings), folder / f"{split}.h5", sample_rate=RATE, clip_seconds=1.0)
    return folder


def make_batches(packs, recordings, **options):
    """Return batches of a pack and the same of its recordings; tf.data uses the sampler of the latter in a thread."""
    pack = open_pack(packs / "bal_train.h5")
    batches, drawn = (
        WaveformBatches(pack, BalancedSampler(pack.targets, 5, seed=3), np.arange(6), **options) for _ in range(2)
    )
    return batches, AudioFileBatches.create(drawn, [pack], recordings)


def run(packs, recordings, folder, *more):
    arguments = ["--data-dir", str(packs), "--decoder", "tfio", "--recordings-dir", str(recordings)]
    return cnn10.main([*arguments, "--run-dir", str(folder), "--width", "0.0625", *more])


def test_paths_are_those_of_the_clips_of_the_pack(packs, recordings):
    batches, files = make_batches(packs, recordings)
    names = [path.decode().removeprefix(f"{recordings}/") for path in files.paths]
    assert names == [name.decode() for name in files.pack.ids]
    np.testing.assert_array_equal(files.batch(2)[0], batches.batch(2)[0])


def test_missing_recordings_are_named(packs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bal_train.h5 names; 6 of 6 do not exist, first .*a/1.wav"):
        make_batches(packs, tmp_path)


def test_the_recordings_need_a_folder(packs, capsys):
    assert cnn10.main(["--data-dir", str(packs), "--decoder", "tfio", "--smoke"]) == 1
    assert "`recordings_dir` must be a folder where `decoder` is tfio; received: None" in capsys.readouterr().err


def test_mixup_draws_what_it_always_drew():
    x, target = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    random = np.random.default_rng(5)
    share, other = random.beta(1.0, 1.0, 4).astype(np.float32)[:, None], random.permutation(4)
    mixed, _ = mix_up(x, target, 1.0, np.random.default_rng(5))
    np.testing.assert_array_equal(mixed, share * x + (1 - share) * x[other])


def test_without_tensorflow_io_the_error_names_the_extra(packs, recordings, tmp_path, capsys):
    if importlib.import_module("kerastag.data.tfio_audio").is_available():
        pytest.skip("tensorflow-io is installed")
    assert run(packs, recordings, tmp_path / "run", "--smoke") == 1
    assert "pip install kerastag[tfio]" in capsys.readouterr().err


@pytest.fixture
def tfio():
    pytest.importorskip("tensorflow")
    if not importlib.import_module("kerastag.data.tfio_audio").is_available():
        pytest.skip("needs tensorflow-io and TensorFlow 2.16")


@pytest.mark.usefixtures("tfio")
@pytest.mark.parametrize("options", [{}, {"samples": 12_000}, {"mixup": 1.0}, {"samples": 40_000, "mixup": 0.5}])
def test_decoded_batches_are_those_of_the_pack(packs, recordings, options):
    from kerastag.data.pipeline import make_training_dataset

    batches, files = make_batches(packs, recordings, **options)
    for index, (waveform, target) in enumerate(make_training_dataset(files, 2, 12), start=2):
        expected, expected_target = batches.batch(index)
        assert waveform.shape == expected.shape
        np.testing.assert_allclose(target, expected_target, atol=1e-6)
        error = np.abs(waveform.numpy() - expected)
        # Resamplers differ near the Nyquist frequency, and at both ends of a recording.
        assert np.median(error) < 2e-3
        assert np.quantile(error, 0.99) < 0.05
    assert index == 11


@pytest.mark.usefixtures("tfio")
def test_a_run_on_recordings_ends_like_one_on_the_pack(packs, recordings, tmp_path):
    losses = {}
    short = ("--steps", "3", "--batch-size", "4", "--checkpoints", "1", "--spec-augment", "false")
    for decoder in ("pack", "tfio"):
        assert run(packs, recordings, tmp_path / decoder, *short, "--decoder", decoder) == 0
        losses[decoder] = float(
            (tmp_path / decoder / "log.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")[1]
        )
        assert json.loads((tmp_path / decoder / "config.json").read_text(encoding="utf-8"))["decoder"] == decoder
    assert losses["tfio"] == pytest.approx(losses["pack"], rel=0.05)


@pytest.mark.usefixtures("tfio")
def test_a_broken_recording_is_named(packs, recordings, tmp_path, capsys):
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    (folder / "a/1.wav").write_bytes(b"no audio")
    assert run(packs, folder, tmp_path / "run", "--smoke") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "not a kind of audio that tensorflow-io reads" in line
    assert "a/1.wav" in line
