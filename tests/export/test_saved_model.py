"""A SavedModel as a server asks it: by waveform, and by the bytes of a WAV file at any rate."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import exported_unmeasured

from kerastag.card import Card

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
RATE = 32_000


@pytest.fixture(scope="module")
def folder(hearing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_unmeasured(hearing, "saved_model", tmp_path_factory.mktemp("served") / "hearing")


@pytest.fixture(scope="module")
def signatures(folder: Path) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "1"))
    return {**loaded.signatures, "loaded": loaded}


def wav(waveform: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def tones(rate: int, seconds: float) -> np.ndarray:
    """Below half of the lowest rate here, so that every rate holds the same sound."""
    time = np.arange(round(rate * seconds)) / rate
    return sum(0.2 * np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)) for hertz in (300, 1_100, 2_700))


def clipwise(signatures: Any, *contents: bytes) -> np.ndarray:
    import tensorflow as tf

    return signatures["wav_bytes"](wav_bytes=tf.constant(contents))["clipwise"].numpy()


def test_signatures_are_named_and_take_any_batch_and_length(signatures: Any, hearing: Path, folder: Path) -> None:
    assert set(signatures) == {"serving_default", "waveform", "wav_bytes", "loaded"}
    network = keras.saving.load_model(hearing)
    for samples in (RATE, RATE // 2):
        given = 0.1 * np.random.default_rng(0).standard_normal((3, samples)).astype(np.float32)
        expected = network.predict(given, verbose=0)
        for name in ("serving_default", "waveform"):
            actual = signatures[name](waveform=given)
            assert set(actual) == {"clipwise", "framewise", "embedding"}
            np.testing.assert_allclose(actual["clipwise"].numpy(), expected["clipwise"], rtol=0, atol=1e-5)
    assert Card.read(folder / "1").labels == Card.read(hearing).labels


def test_the_bytes_of_wav_files_are_decoded_mixed_and_filled_up(signatures: Any) -> None:
    sound = tones(RATE, 0.7)
    padded = np.pad(np.rint(sound * 32_767) / 32_768, (0, RATE - len(sound))).astype(np.float32)[None]
    expected = signatures["waveform"](waveform=padded)["clipwise"].numpy()[0]
    stereo = np.stack([1.5 * sound, 0.5 * sound], axis=1)
    actual = clipwise(signatures, wav(sound, RATE), wav(stereo, RATE))
    np.testing.assert_allclose(actual, [expected, expected], rtol=0, atol=1e-3)
    assert np.abs(clipwise(signatures, wav(0 * sound, RATE))[0] - expected).max() > 0.005  # it does hear


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int, signatures: Any) -> None:
    expected = clipwise(signatures, wav(tones(RATE, 0.9), RATE))
    actual = clipwise(signatures, wav(tones(rate, 0.9), rate))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.01)


def test_what_is_no_window_is_refused(signatures: Any) -> None:
    with pytest.raises(Exception, match=r"`wav_bytes` must be windows of at most.*1.*seconds, received.*3"):
        clipwise(signatures, wav(np.zeros(3 * RATE), RATE))
    with pytest.raises(Exception, match="RIFF"):
        clipwise(signatures, b"this is no sound")


def test_a_new_version_stands_beside_the_old_one(folder: Path) -> None:
    from kerastag.export.saved_model import next_version

    assert sorted(child.name for child in folder.iterdir()) == ["1"]
    assert next_version(folder) == 2
    assert next_version(folder.parent / "absent") == 1
    assert (folder.parent / "hearing.parity.json").is_file()
