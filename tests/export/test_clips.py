"""What a model is measured on: packs of its own kind, at the level that they have or quieter."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import CLASSES

from kerastag.data.audio_lists import read_audio_list
from kerastag.data.audio_pack import pack_audio
from kerastag.export import parity
from kerastag.export.clips import evaluation_clips
from kerastag.export.serving import Served, serve
from kerastag.export.source import read_source
from kerastag.export.target import Target

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(scope="module")
def served(hearing: Path) -> Served:
    return serve(read_source(hearing), Target(name="float32"))


@pytest.fixture(scope="module")
def pack(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of noise a class, two of each."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for index in range(2 * len(CLASSES)):
        path = folder / CLASSES.names[index // 2] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, random.uniform(-0.9, 0.9, served.samples), served.card.sample_rate)
    output = folder / "eval.h5"
    pack_audio(read_audio_list(folder), output, sample_rate=served.card.sample_rate, clip_seconds=1.0)
    return output


def test_a_quieter_recording_is_in_16_bit_steps_as_a_microphone_gives_it(served: Served, pack: Path) -> None:
    (loud,), (quiet,) = (list(evaluation_clips(pack, served, level).batches()) for level in (1.0, 0.005))
    steps = quiet * 32_768
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_allclose(steps, 32_767 * 0.005 * loud, atol=0.51)
    assert 50 < len(np.unique(steps)) < 330  # few are left


def test_map_is_that_of_what_runs(served: Served, pack: Path) -> None:
    clips = evaluation_clips(pack.parent, served)
    assert len(clips) == 2 * len(CLASSES)
    assert parity.map_of(lambda given: {"clipwise": clips.targets.astype(float)}, clips) == 1
    worst = parity.map_of(lambda given: {"clipwise": 1.0 - clips.targets}, clips)
    assert worst < 0.3
    assert worst < parity.map_of(lambda given: parity.reference(served, given), clips) < 1
    with pytest.raises(ValueError, match="needs a model with the output `clipwise`"):
        parity.map_of(lambda given: {"embedding": given}, clips)
