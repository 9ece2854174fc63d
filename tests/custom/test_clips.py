"""The clips of a run: recordings of the classes, and background."""

import shutil

import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.custom import CustomConfig
from kerastag.custom.clips import load_clips, read_windows, synthesize_background
from kerastag.data.audio_lists import Recording


def test_background_is_a_class_of_its_own_that_is_in_no_fold(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background="synthetic"), 8000)
    assert clips.class_names == ("bursts", "clicks", "hums", "background")
    assert clips.recordings.tolist() == list(range(27))
    assert clips.targets[27:].tolist() == [[False, False, False, True]] * 154
    assert clips.folds[27:].tolist() == [-1] * 154
    assert [int(clip.path.name[0]) - 1 for clip in clips.audio[:27]] == clips.folds[:27].tolist()
    assert clips.has_single_labels


def test_recordings_of_a_folder_can_be_background(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background=str(recordings / "hums")), 8000)
    assert [clip.path for clip in clips.audio[27:]] == sorted((recordings / "hums").iterdir())


def test_without_background_there_is_no_such_class(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background="none", folds=0), 8000)
    assert clips.class_names == ("bursts", "clicks", "hums")
    assert len(clips) == 27
    assert not clips.folds.any()


def test_background_joins_a_class_of_that_name(tmp_path, recordings):
    paths = sorted(recordings.rglob("*.wav"))
    lines = [f"{path.relative_to(recordings)},{'hums' if 'hums' in str(path) else 'background'}" for path in paths]
    (tmp_path / "list.csv").write_text("\n".join(["path,labels", *lines]) + "\n", encoding="utf-8")
    clips = load_clips(
        CustomConfig(audio_dir=str(recordings), labels=str(tmp_path / "list.csv"), background="synthetic"), 8000
    )
    assert clips.class_names == ("background", "hums")
    assert clips.targets[:, 0].sum() == 18 + 154


def test_selected_clips_keep_their_labels(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings), background="synthetic"), 8000)
    selected = clips.select(np.array([30, 2]))
    assert selected.audio[1] == clips.audio[2]
    np.testing.assert_array_equal(selected.targets, clips.targets[[30, 2]])
    assert selected.recordings.tolist() == [1]


def test_bundled_background_has_recordings_too(recordings):
    clips = load_clips(CustomConfig(audio_dir=str(recordings)), 8000)
    assert clips.class_names[-1] == "background"
    assert clips.targets[27:, -1].all()
    sounds = clips.audio[27 + 154 :]
    assert len(sounds) > 200
    assert {sound.shape for sound in sounds} == {(12_000,)}
    peaks = np.array([np.abs(sound).max() for sound in sounds])
    assert 0.005 < peaks.min() < 0.02
    assert 0.4 < peaks.max() < 0.6
    spectra = np.abs(np.fft.rfft(np.stack(sounds) / peaks[:, None]))
    assert (spectra.max(axis=0) > 30).mean() > 0.5  # all parts of the spectrum are there


def test_synthetic_background_never_changes():
    samples = [waveform[1000] for waveform in synthesize_background(8000)]
    white, pink = (1.1817e-4, 4.67332e-4, -1.30519e-4), (1.14457e-4, -5.14829e-5, 2.97731e-4)
    brown = (-1.00998e-4, 1.83862e-4, 5.53724e-4)
    np.testing.assert_allclose(samples, [0.0, *white, *pink, *brown], rtol=1e-4)


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [(0.25, [8000]), (1.5, [12_000]), (2.25, [16_000]), (2.75, [16_000, 8000]), (5.0, [16_000, 16_000, 8000])],
)
def test_a_clip_is_read_in_windows_of_at_least_a_second(tmp_path, seconds, lengths):
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.full(round(8000 * seconds), 0.5), 8000)
    windows = list(read_windows(Recording(path, "tone.wav", (0,)), 8000, window_seconds=2.0))
    assert [len(window) for window in windows] == lengths
    num_samples = sum(np.count_nonzero(window) for window in windows)
    assert round(8000 * seconds) - num_samples in range(4000)


def test_one_class_is_distinguished_from_background_that_is_held_out_too(tmp_path, recordings):
    shutil.copytree(recordings / "hums", tmp_path / "hums")
    clips = load_clips(CustomConfig(audio_dir=str(tmp_path), background="synthetic"), 8000)
    assert clips.class_names == ("hums", "background")
    assert clips.targets[:9].tolist() == [[True, False]] * 9
    assert clips.targets[9:].tolist() == [[False, True]] * 154
    assert set(clips.folds[9:]) == {0, 1, 2}
    assert all(np.abs(waveform).max() < 0.71 for waveform in clips.audio[9:])
    with pytest.raises(ValueError, match="must have recordings without 'hums', or `background` must not be none"):
        load_clips(CustomConfig(audio_dir=str(tmp_path), background="none"), 8000)
    (tmp_path / "hums").rename(tmp_path / "background")
    with pytest.raises(ValueError, match="must have recordings without 'background', or"):
        load_clips(CustomConfig(audio_dir=str(tmp_path), background="synthetic"), 8000)


def test_labeled_parts_and_columns_of_a_list_are_read(tmp_path, recordings, capsys):
    rows = [f"{path.relative_to(recordings)};0,25;1,25;x" for path in sorted((recordings / "hums").iterdir())]
    (tmp_path / "list.csv").write_text("\n".join(["where;start;end;what", *rows]) + "\n", encoding="utf-8")
    options = {
        "audio_dir": str(recordings),
        "background": "synthetic",
        "labels": str(tmp_path / "list.csv"),
        "path_column": "where",
    }
    clips = load_clips(CustomConfig(**options, label_column="what"), 8000)
    assert "list.csv: table with the columns where and what: 9 labeled parts" in capsys.readouterr().err
    [window] = read_windows(clips.audio[0], 8000, 30.0)
    np.testing.assert_allclose(window, audio.load(clips.audio[0].path, 8000, offset_seconds=0.25)[:8000], atol=1e-3)
    clips = load_clips(CustomConfig(**options, label_column="what", excerpts="whole"), 8000)
    assert clips.audio[0].end_seconds is None


def test_clips_with_negative_labels_alone_are_trained_on_and_their_other_labels_are_not_known(tmp_path, recordings):
    shutil.copytree(recordings, tmp_path, dirs_exist_ok=True)
    (tmp_path / "hums/1-0-A.wav").rename(tmp_path / "other.wav")
    (tmp_path / "-clicks").mkdir()
    (tmp_path / "other.wav").rename(tmp_path / "-clicks/x.wav")
    clips = load_clips(CustomConfig(audio_dir=str(tmp_path), background="synthetic"), 8000)
    assert clips.class_names == ("bursts", "clicks", "hums", "background")
    assert clips.audio[26].name == "-clicks/x.wav"
    assert (clips.targets[26].any(), clips.is_known[26].tolist()) == (False, [False, True, False, False])
    assert clips.is_known[:26].all()
    assert clips.folds[26] == -1
    assert 26 not in clips.recordings
    train, test = clips.split_fold(1)
    assert 26 in train
    assert set(clips.folds[test]) == {1}


def test_a_recording_that_has_none_of_the_classes_is_background_and_held_out_for_a_single_class(tmp_path, recordings):
    shutil.copytree(recordings / "hums", tmp_path / "hums")
    shutil.copytree(recordings / "clicks", tmp_path / "-hums")
    clips = load_clips(CustomConfig(audio_dir=str(tmp_path), background="synthetic"), 8000)
    assert clips.targets[9:18].tolist() == [[False, True]] * 9
    assert clips.is_known.all()
    assert set(clips.folds[9:18]) == {0, 1, 2}
    clips = load_clips(CustomConfig(audio_dir=str(tmp_path), background="none"), 8000)
    assert clips.class_names == ("hums",)
    assert set(clips.folds[9:]) == {0, 1, 2}


def test_the_digest_changes_with_recordings_and_labels(tmp_path, recordings):
    shutil.copytree(recordings, tmp_path, dirs_exist_ok=True)
    config = CustomConfig(audio_dir=str(tmp_path))
    digests = [load_clips(config, 8000).compute_digest() for _ in range(2)]
    (tmp_path / "hums/1-0-A.wav").rename(tmp_path / "clicks/1-0-A.wav")
    digests.append(load_clips(config, 8000).compute_digest())
    (tmp_path / "clicks/1-0-A.wav").unlink()
    digests.append(load_clips(config, 8000).compute_digest())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
