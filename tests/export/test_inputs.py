"""Inputs of a model: clips of packs at their own level and at lower ones, recordings, and probes."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import CLASSES

from kerastag.data.audio_list_reading import read_audio_list
from kerastag.data.audio_pack_writer import pack_audio
from kerastag.export.inputs import PackInputs, make_probes, read_representative_inputs
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
    (loud,), (quiet,) = (list(PackInputs(pack, prepared, level).batches()) for level in (1.0, 0.005))
    steps = quiet * 32_768
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_allclose(steps, 32_767 * 0.005 * loud, atol=0.51)
    assert 50 < len(np.unique(steps)) < 330


def test_map_is_computed_from_the_predictions_of_any_function(prepared: PreparedModel, pack: Path) -> None:
    clips = PackInputs(pack.parent, prepared)
    assert len(clips) == 2 * len(CLASSES)
    assert compute_map(lambda batch: {"clipwise": clips.targets.astype(float)}, clips) == 1
    worst = compute_map(lambda batch: {"clipwise": 1.0 - clips.targets}, clips)
    assert worst < 0.3
    assert worst < compute_map(lambda batch: predict_reference(prepared, batch), clips) < 1
    with pytest.raises(ValueError, match="needs a model with the output `clipwise`; received: embedding"):
        compute_map(lambda batch: {"embedding": batch}, clips)


def test_recordings_come_in_a_random_order_that_is_always_the_same(prepared: PreparedModel, tmp_path: Path) -> None:
    levels = np.arange(1, 31) / 100
    for index, level in enumerate(levels):
        waveform = np.full(prepared.num_samples, level, np.float32)
        soundfile.write(tmp_path / f"{index:02}.wav", waveform, prepared.card.sample_rate, subtype="FLOAT")
    first, second = ([float(each.max()) for each in read_representative_inputs(tmp_path, prepared)] for _ in range(2))
    assert sorted(first) == pytest.approx(list(levels))
    assert abs(np.corrcoef(first, np.arange(30))[0, 1]) < 0.4
    assert first == second


def test_recordings_that_cannot_be_read_are_skipped_named_and_counted(
    prepared: PreparedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    with pytest.raises(ValueError, match=r"a folder with recordings that can be read: .*bad\.wav"):
        list(read_representative_inputs(tmp_path, prepared))
    soundfile.write(tmp_path / "good.wav", np.full(prepared.num_samples, 0.5), prepared.card.sample_rate)
    capsys.readouterr()
    assert len(list(read_representative_inputs(tmp_path, prepared))) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"skipped: {tmp_path}/bad.wav: ")
    assert second == "skipped: 1 of 2 recordings"


def test_probes_of_waveforms_have_several_levels_in_16_bit_steps(prepared: PreparedModel) -> None:
    probes = make_probes(prepared)
    assert sorted(probes)[:2] == ["noise 0.005", "noise 0.05"]
    assert all(each.shape == (1, *prepared.input_shape) and each.dtype == np.float32 for each in probes.values())
    assert np.abs(probes["speech 0.5"]).max() == pytest.approx(0.5, abs=1e-4)
    steps = 32_768 * probes["sine"]
    assert np.array_equal(steps, np.rint(steps))
