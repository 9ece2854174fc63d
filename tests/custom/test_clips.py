"""The clips of a run: recordings of the classes, and background."""

import numpy as np
import pytest
import soundfile

from kerastag.custom import CustomConfig
from kerastag.custom.clips import load_clips, load_waveform, synthesize_background


def test_background_is_a_class_of_its_own_that_is_in_no_fold(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings)), 8000)
    assert clips.class_names == ("bursts", "clicks", "hums", "background")
    assert clips.recordings.tolist() == list(range(27))
    assert clips.targets[27:].tolist() == [[False, False, False, True]] * 10
    assert clips.folds[27:].tolist() == [-1] * 10
    assert [int(path.name[0]) - 1 for path in clips.audio[:27]] == clips.folds[:27].tolist()
    assert clips.has_single_labels


def test_recordings_of_a_folder_can_be_background(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background=str(recordings / "hums")), 8000)
    assert clips.audio[27:] == tuple(sorted((recordings / "hums").iterdir()))


def test_without_background_there_is_no_such_class(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background="none", folds=0), 8000)
    assert clips.class_names == ("bursts", "clicks", "hums")
    assert len(clips) == 27
    assert not clips.folds.any()


def test_background_joins_a_class_of_that_name(tmp_path, recordings):
    lines = [f"{path.relative_to(recordings)},background" for path in sorted(recordings.rglob("*.wav"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,labels", *lines]) + "\n")
    clips = load_clips(CustomConfig(audio_dir=str(recordings), labels=str(tmp_path / "list.csv")), 8000)
    assert clips.class_names == ("background",)
    assert clips.targets.all()


def test_selected_clips_keep_their_labels(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings)), 8000)
    selected = clips.select(np.array([30, 2]))
    assert selected.audio[1] == clips.audio[2]
    np.testing.assert_array_equal(selected.targets, clips.targets[[30, 2]])
    assert selected.recordings.tolist() == [1]


def test_synthetic_background_never_changes():
    samples = [waveform[1000] for waveform in synthesize_background(8000)]
    white, pink = (1.1817e-4, 4.67332e-4, -1.30519e-4), (1.14457e-4, -5.14829e-5, 2.97731e-4)
    brown = (-1.00998e-4, 1.83862e-4, 5.53724e-4)
    np.testing.assert_allclose(samples, [0.0, *white, *pink, *brown], rtol=1e-4)


@pytest.mark.parametrize("seconds", [0.25, 1.5, 4.0])
def test_a_waveform_is_padded_to_a_second_and_cut_after_the_maximum(tmp_path, seconds):
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.full(round(8000 * seconds), 0.5), 8000)
    waveform = load_waveform(path, 8000, max_seconds=2.0)
    assert len(waveform) == 8000 * min(2.0, max(1.0, seconds))
    assert not waveform[round(8000 * seconds) :].any()
