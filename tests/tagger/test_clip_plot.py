"""Tests of plots of labeled clips."""

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from kerastag.cli import main
from kerastag.data import pack_audio, read_audio_list, write_synthetic_packs
from kerastag.tagger.clip_plot import plot_clip


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_synthetic_packs(tmp_path_factory.mktemp("packs"), num_train=6, num_eval=6, num_classes=4)["eval"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds") / "Dog/a.wav"
    path.parent.mkdir()
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 1000 * np.arange(22_050 * 3) / 22_050), 22_050)
    return path


def test_a_recording_stands_above_the_embeddings(features, recording, tmp_path, capsys):
    with_audio, without = tmp_path / "clip.png", tmp_path / "embeddings.png"
    arguments = ["plot-clip", str(features), "--clip", "2"]
    assert main([*arguments, "--output", str(without)]) == 0
    assert main([*arguments, "--audio", str(recording), "--output", str(with_audio)]) == 0
    assert capsys.readouterr().out.split() == [str(without), str(with_audio)]
    images = [imread(path) for path in (without, with_audio)]
    assert images[1].shape[0] > images[0].shape[0] + 300  # one panel more
    assert all(image[..., :3].std() > 0.05 for image in images)


def test_a_pack_of_waveforms_has_a_log_mel(recording, tmp_path):
    pack_audio(read_audio_list(recording.parent.parent), tmp_path / "sounds.h5", sample_rate=32_000, clip_seconds=4.0)
    for clip in ("Dog/a.wav", None):
        assert imread(plot_clip(tmp_path / "sounds.h5", tmp_path / "clip.png", clip=clip)).std() > 0.05


def test_clips_and_files_that_do_not_exist_are_named(features, tmp_path):
    output = tmp_path / "clip.png"
    with pytest.raises(ValueError, match=r"eval.h5: `clip` must be the name of a clip, such as '.+', or a row below"):
        plot_clip(features, output, clip="6")
    with pytest.raises(FileNotFoundError, match=r"none.wav"):
        plot_clip(features, output, audio_file=tmp_path / "none.wav")
    with pytest.raises(ValueError, match=r"`output` must end in one of .png"):
        plot_clip(features, tmp_path / "clip.txt")
    with pytest.raises(ValueError, match=r"`segment_seconds` must be above 0; received: 0"):
        plot_clip(features, output, segment_seconds=0)
    assert not output.exists()
