"""A small backbone, a few synthetic recordings, and runs with both."""

import contextlib
import io

import keras
import numpy as np
import pytest
import soundfile

from kerastag.card import Card, write_card
from kerastag.custom.__main__ import main
from kerastag.data.sound_sources import SyntheticSounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt, SoundscapeConfig, SoundscapeMixer
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet
from kerastag.models.backbones.cnn10 import BACKBONE, cnn10

CLASSES = ("hums", "bursts", "clicks")
SMALL = ("--units", "16", "--steps", "60", "--batch_size", "18", "--learning_rate", "0.02", "--background", "synthetic")
FINE_TUNE = ("--fine-tune", "true", "--fine-tune-steps", "2", "--fine-tune-batch-size", "4", "--steps", "5")


def run_custom(recordings, backbone, folder, *flags):
    """Run the command and return its exit status."""
    arguments = ["--audio_dir", str(recordings), "--model", str(backbone), "--run_dir", str(folder)]
    return main([*arguments, *SMALL, *flags])


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    """Folder of `KERASTAG_HOME` in all tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("home")
        monkeypatch.setenv("KERASTAG_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """Path of an untrained network, whose embeddings distinguish noise from a tone."""
    return make_backbone(tmp_path_factory.mktemp("backbone") / "cnn10.keras")


def make_backbone(path, names=tuple(f"class {k}" for k in range(4)), scale=1.0):
    """Save an untrained network with batch normalizations that have statistics of audio; `scale` is that of logits."""
    keras.utils.set_random_seed(1)
    model = cnn10(len(names), width=0.125, input="waveform")
    mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig(soundscape_seconds=2.0))
    waveforms = np.stack([mixer.render(mixer.compose(i), 32_000) for i in range(8)])
    batch_norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in batch_norms:
        layer.momentum = 0.0
    model(waveforms, training=True)  # Without statistics of audio, all embeddings would be nearly equal.
    for layer in batch_norms:
        layer.momentum = 0.99
    classifier = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][-1]
    classifier.kernel.assign(scale * classifier.kernel)
    model.save(path)
    front_end = FRONT_ENDS[BACKBONE.front_end].as_dict()
    labels = LabelSet.from_names(names)
    write_card(path, Card(labels, 32_000, 10.0, BACKBONE.seconds_per_output, front_end))
    return path


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Folder of 27 recordings of three classes, in three folds by their names."""
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def write_recordings(folder):
    """Write nine recordings of each of three classes."""
    sounds = SyntheticSounds()
    for k, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(9):
            excerpt = Excerpt(sounds.labels.index(name), name, i, 0.0, 2 - 0.25 * (i % 2))
            waveform = sounds.load_waveform(excerpt)
            path = folder / name / f"{i % 3 + 1}-{100 * k + i}-A.wav"
            soundfile.write(path, 0.3 * waveform / np.abs(waveform).max(), MIX_SAMPLE_RATE)
    return folder


@pytest.fixture(scope="session")
def finished_run(recordings, backbone, cache_folder, tmp_path_factory):
    """Folder of a finished run with seed 4, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert run_custom(recordings, backbone, folder, "--seeds", "[4]") == 0
    return folder, output.getvalue()
