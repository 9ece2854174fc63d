"""The choice of a channel of recordings, and standard input in constant memory."""

import io
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from tagger.small_models import save_small_model

from kerastag import audio
from kerastag.cli import main
from kerastag.labels import LabelSet
from kerastag.tagger import Tagger


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small.keras", LabelSet.from_names(["a", "b", "c"]))


@pytest.fixture
def recordings(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 96_000)
    soundfile.write(tmp_path / "mono.wav", noise, 32_000)
    soundfile.write(tmp_path / "antiphase.wav", np.stack([noise, -noise], axis=1), 32_000)
    return tmp_path


def test_a_channel_is_tagged_like_a_recording_of_it_alone(model, recordings):
    tagger = Tagger.load(model)
    expected = tagger.predict_timeline(recordings / "mono.wav")
    both = recordings / "antiphase.wav"
    np.testing.assert_array_equal(tagger.predict(both, channel="left"), expected.clipwise)
    np.testing.assert_array_equal(tagger.predict_timeline(both, channel=1).probabilities, expected.probabilities)
    assert not np.array_equal(tagger.predict(both, channel="right"), expected.clipwise)


def test_the_command_warns_of_channels_that_cancel_each_other_and_takes_one(model, recordings, capsys):
    path = str(recordings / "antiphase.wav")
    command = ["tag", path, "--model", str(model), "--format", "csv"]
    assert main(command) == 0
    cancelled, errors = capsys.readouterr()
    assert f"warning: {path}: its channels cancel each other" in errors
    assert main([*command, "--channel", "loudest"]) == 0
    loudest, errors = capsys.readouterr()
    assert "warning" not in errors
    assert loudest != cancelled
    assert main([*command, "--channel", "second"]) == 1
    assert "`channel` must be mean, left, right, loudest or a number" in capsys.readouterr().err


def test_standard_input_is_not_decoded_as_a_whole(model, monkeypatch):
    content = io.BytesIO()
    soundfile.write(content, np.zeros(20 * 60 * 8_000, np.int16), 8_000, format="FLAC")
    content.seek(0)
    monkeypatch.setattr(sys, "stdin", content)
    tracemalloc.start()
    try:
        with audio.spool_stream(sys.stdin) as path:
            num_blocks = sum(1 for _ in audio.read_blocks(path, 32_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num_blocks == 120
    assert peak < 20e6  # The waveform has 154 MB.
