"""Evaluation clips: packs of waveforms, at their own level and at lower ones."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import CLASSES

from kerastag.data.audio_lists import read_audio_list
from kerastag.data.audio_pack_writer import pack_audio
from kerastag.export.clips import open_evaluation_pack
from kerastag.export.parity import compute_map, predict_reference
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.source import read_source
from kerastag.export.target import Target

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(scope="module")
def prepared(tagger_file: Path) -> PreparedModel:
    return prepare_model(read_source(tagger_file), Target(name="float32"))


@pytest.fixture(scope="module")
def pack(prepared: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack two recordings of one second of noise per class."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for index in range(2 * len(CLASSES)):
        path = folder / CLASSES.names[index // 2] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.uniform(-0.9, 0.9, prepared.num_samples), prepared.card.sample_rate)
    output = folder / "eval.h5"
    pack_audio(read_audio_list(folder), output, sample_rate=prepared.card.sample_rate, clip_seconds=1.0)
    return output


def test_a_quieter_recording_is_in_16_bit_steps_like_that_of_a_microphone(prepared: PreparedModel, pack: Path) -> None:
    (loud,), (quiet,) = (list(open_evaluation_pack(pack, prepared, level).batches()) for level in (1.0, 0.005))
    steps = quiet * 32_768
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_allclose(steps, 32_767 * 0.005 * loud, atol=0.51)
    assert 50 < len(np.unique(steps)) < 330


def test_map_is_computed_from_the_predictions_of_any_function(prepared: PreparedModel, pack: Path) -> None:
    clips = open_evaluation_pack(pack.parent, prepared)
    assert len(clips) == 2 * len(CLASSES)
    assert compute_map(lambda batch: {"clipwise": clips.targets.astype(float)}, clips) == 1
    worst = compute_map(lambda batch: {"clipwise": 1.0 - clips.targets}, clips)
    assert worst < 0.3
    assert worst < compute_map(lambda batch: predict_reference(prepared, batch), clips) < 1
    with pytest.raises(ValueError, match="needs a model with the output `clipwise`; received: embedding"):
        compute_map(lambda batch: {"embedding": batch}, clips)
