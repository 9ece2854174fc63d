"""A SavedModel as a server calls it: with waveforms, and with the contents of WAV files of any sample rate."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import skip_usage

from kerastag.card import Card
from kerastag.export import export_model, read_target
from kerastag.export.saved_model import find_next_version

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
RATE = 32_000


@pytest.fixture(scope="module")
def folder(tagger_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "tagger"
    with pytest.MonkeyPatch.context() as patch:
        skip_usage(patch)
        export_model(tagger_file, read_target("saved_model"), output)
    return output


@pytest.fixture(scope="module")
def signatures(folder: Path) -> Any:
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "1"))
    return {**model.signatures, "model": model}  # the signatures do not keep the model alive


def encode_wav(waveform: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def make_tones(rate: int, seconds: float) -> np.ndarray:
    """Make tones below half of the lowest rate of these tests, so that every rate holds the same sound."""
    time = np.arange(round(rate * seconds)) / rate
    return sum(0.2 * np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)) for hertz in (300, 1_100, 2_700))


def predict_clipwise(signatures: Any, *contents: bytes) -> np.ndarray:
    import tensorflow as tf

    return signatures["wav_bytes"](wav_bytes=tf.constant(contents))["clipwise"].numpy()


def test_signatures_are_named_and_take_any_batch_and_length(signatures: Any, tagger_file: Path, folder: Path) -> None:
    assert set(signatures) == {"serving_default", "waveform", "wav_bytes", "model"}
    network = keras.saving.load_model(tagger_file)
    for samples in (RATE, RATE // 2):
        waveforms = 0.1 * np.random.default_rng(0).standard_normal((3, samples)).astype(np.float32)
        expected = network(waveforms)
        for name in ("serving_default", "waveform"):
            actual = signatures[name](waveform=waveforms)
            assert set(actual) == {"clipwise", "framewise", "embedding"}
            np.testing.assert_allclose(actual["clipwise"].numpy(), expected["clipwise"], rtol=0, atol=1e-5)
    assert Card.read(folder / "1").labels == Card.read(tagger_file).labels


def test_wav_files_are_decoded_mixed_to_mono_and_padded(signatures: Any) -> None:
    waveform = make_tones(RATE, 0.7)
    padded = np.pad(np.rint(waveform * 32_767) / 32_768, (0, RATE - len(waveform))).astype(np.float32)[None]
    expected = signatures["waveform"](waveform=padded)["clipwise"].numpy()[0]
    stereo = np.stack([1.5 * waveform, 0.5 * waveform], axis=1)
    actual = predict_clipwise(signatures, encode_wav(waveform, RATE), encode_wav(stereo, RATE))
    np.testing.assert_allclose(actual, [expected, expected], rtol=0, atol=1e-3)
    silence = predict_clipwise(signatures, encode_wav(0 * waveform, RATE))[0]
    assert np.abs(silence - expected).max() > 0.005, "the audio must matter"


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_sample_rates_are_resampled(rate: int, signatures: Any) -> None:
    expected = predict_clipwise(signatures, encode_wav(make_tones(RATE, 0.9), RATE))
    actual = predict_clipwise(signatures, encode_wav(make_tones(rate, 0.9), rate))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.01)


def test_long_recordings_and_other_files_are_refused(signatures: Any) -> None:
    with pytest.raises(Exception, match=r"`wav_bytes` must be windows of at most.*1.*seconds; received:.*3"):
        predict_clipwise(signatures, encode_wav(np.zeros(3 * RATE), RATE))
    with pytest.raises(Exception, match="RIFF"):
        predict_clipwise(signatures, b"not a WAV file")


def test_a_new_version_is_numbered_after_the_last_one(folder: Path) -> None:
    assert sorted(child.name for child in folder.iterdir()) == ["1"]
    assert find_next_version(folder) == 2
    assert find_next_version(folder.parent / "absent") == 1
    assert (folder.parent / "tagger.parity.json").is_file()
