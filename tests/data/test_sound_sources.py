"""Sources of sounds: sounds in recordings, backgrounds, and synthetic sounds that depend on their seed only."""

import numpy as np
import pytest
import soundfile

from kerastag.data.audio_list_reading import read_audio_list, read_class_folders
from kerastag.data.sound_sources import RecordedBackground, RecordedSounds, SyntheticSounds, find_sounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt


def make_noise(*parts):
    """Make parts of noise from pairs of seconds and amplitude."""
    random = np.random.default_rng(0)
    return np.concatenate([a * random.uniform(-1, 1, round(s * MIX_SAMPLE_RATE)) for s, a in parts])


def write(path, waveform, rate=MIX_SAMPLE_RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate)


@pytest.fixture
def tree(tmp_path):
    for name in ("cat/1-a", "cat/2-b", "dog/1-c"):
        write(tmp_path / "sounds" / f"{name}.wav", make_noise((0.4, 0), (0.6, 0.5), (0.5, 0)))
    return tmp_path / "sounds"


def test_a_sound_extends_from_its_first_loud_frame_to_its_last():
    (span,) = find_sounds([make_noise((1.0, 0.0001), (0.5, 0.3), (2.0, 0.0001))])
    assert span == (pytest.approx(0.98), pytest.approx(1.52))
    assert find_sounds([make_noise((0.5, 0.3))]) == [(0.0, 0.5)]


def test_a_short_pause_belongs_to_the_sound_and_a_long_one_separates_two():
    assert len(find_sounds([make_noise((0.5, 0.3), (0.9, 0), (0.5, 0.3))])) == 1
    assert find_sounds([make_noise((0.5, 0.3), (1.5, 0), (0.5, 0.2))]) == [(0.0, 0.52), (1.98, 2.5)]


def test_a_much_quieter_part_is_not_a_sound_of_its_own():
    assert find_sounds([make_noise((0.5, 0.3), (1.5, 0), (0.5, 0.03))]) == [(0.0, 0.52)]
    # Next to the sound, it belongs to it.
    assert find_sounds([make_noise((0.5, 0.3), (0.5, 0.03), (1, 0))]) == [(0.0, 1.02)]


def test_a_constant_is_silent():
    assert find_sounds([np.full(MIX_SAMPLE_RATE, 0.3)]) == []
    assert find_sounds([]) == []
    (span,) = find_sounds([0.3 + make_noise((0.5, 0), (0.5, 0.3))])
    assert span == (pytest.approx(0.48), 1.0)


def test_the_division_into_blocks_changes_nothing():
    waveform = make_noise((0.33, 0), (0.5, 0.3), (1.2, 0), (0.41, 0.2), (0.1, 0))
    assert find_sounds(np.array_split(waveform, 17)) == find_sounds([waveform])


def test_excerpts_are_drawn_from_the_sounds_of_every_class(tree):
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    random = np.random.default_rng(0)
    excerpts = [sounds.draw(random, 0.25) for _ in range(60)]
    assert {(e.class_index, e.source) for e in excerpts} == {(0, "cat/1-a.wav"), (0, "cat/2-b.wav"), (1, "dog/1-c.wav")}
    assert all(e.seconds == 0.25 and 0.38 <= e.start_seconds <= 0.771 for e in excerpts)
    assert len({e.start_seconds for e in excerpts}) > 20
    excerpt = sounds.draw(random, 5.0)
    assert (excerpt.start_seconds, excerpt.seconds) == (0.38, 0.64)
    waveform = sounds.load_waveform(excerpt)
    assert len(waveform) == round(0.64 * MIX_SAMPLE_RATE)
    whole, _ = soundfile.read(sounds.clips.recordings[excerpt.number].path)
    first = round(0.38 * MIX_SAMPLE_RATE)
    np.testing.assert_allclose(waveform, whole[first : first + len(waveform)], atol=1e-6)


def test_silent_and_damaged_files_are_errors_or_skipped(tree, capsys):
    write(tree / "cat/silent.wav", np.zeros(MIX_SAMPLE_RATE))
    with pytest.raises(ValueError, match=r"cat/silent\.wav: must not be silent"):
        RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    (tree / "dog/bad.wav").write_bytes(b"RIFF not audio at all")
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), skip_corrupt=True, progress=False)
    assert [r.name for r in sounds.clips.recordings] == ["cat/1-a.wav", "cat/2-b.wav", "dog/1-c.wav"]
    errors = capsys.readouterr().err
    assert "skipped: " in errors
    assert "silent.wav" in errors
    assert "bad.wav" in errors


def test_classes_without_recordings_and_recordings_of_two_classes_or_none_are_refused(tree):
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    assert len(sounds.select([1, 2], "eval").clips) == 2
    with pytest.raises(ValueError, match="sounds, split eval: no recording of dog"):
        sounds.select([0, 1], "eval")
    (tree / "list.csv").write_text("path,labels\ncat/1-a.wav,cat;dog\ndog/1-c.wav,dog\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cat/1-a\.wav: must have one label; received: cat, dog"):
        RecordedSounds.from_recordings(read_audio_list(tree, tree / "list.csv"), progress=False)
    (tree / "list.csv").unlink()
    with pytest.raises(ValueError, match="must not be silent"):
        RecordedSounds(read_class_folders(tree), [[(0.0, 1.0)], [], [(0.0, 1.0)]])


def test_splits_share_no_background(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.wav", make_noise((1.0, 0.1)), MIX_SAMPLE_RATE)
    parts = RecordedBackground(tmp_path).split(2)
    random = np.random.default_rng(0)
    names = [{part.draw(random, 0.5).source for _ in range(20)} for part in parts]
    assert names == [{"a.wav", "c.wav"}, {"b.wav"}]
    assert len(parts[0].load_waveform(parts[0].draw(random, 0.5))) == round(0.5 * MIX_SAMPLE_RATE)
    assert parts[0].draw(random, 9.0).seconds == 1.0
    spans = [[part.draw(random, 0.1) for _ in range(40)] for part in RecordedBackground(tmp_path).split(4)]
    for number, excerpts in enumerate(spans):  # too few recordings: a quarter of each for every split
        assert {excerpt.source for excerpt in excerpts} == {"a.wav", "b.wav", "c.wav"}
        assert min(excerpt.start_seconds for excerpt in excerpts) >= number / 4
        assert max(excerpt.start_seconds + excerpt.seconds for excerpt in excerpts) <= (number + 1) / 4 + 1e-9
    with pytest.raises(FileNotFoundError, match="`background_dir`: .*none: no such folder"):
        RecordedBackground(tmp_path / "none")
    write(tmp_path / "b.wav", np.zeros(MIX_SAMPLE_RATE))
    with pytest.raises(ValueError, match=r"b\.wav: must not be silent"):
        RecordedBackground(tmp_path)


def test_background_that_cannot_be_read_is_skipped_named_and_counted(tmp_path, capsys):
    write(tmp_path / "a.wav", make_noise((1.0, 0.1)), MIX_SAMPLE_RATE)
    (tmp_path / "b.wav").write_bytes(b"not audio")
    background = RecordedBackground(tmp_path, skip_corrupt=True)
    assert background.draw(np.random.default_rng(0), 0.5).source == "a.wav"
    error = capsys.readouterr().err
    assert error.splitlines()[0].startswith(f"skipped: {tmp_path}/b.wav: ")
    assert error.endswith("skipped: 1 of 2 recordings\n")
    (tmp_path / "a.wav").unlink()
    with pytest.raises(ValueError, match="must hold a recording that can be read; received: 1 files"):
        RecordedBackground(tmp_path, skip_corrupt=True)


def test_sounds_are_looked_for_in_the_labeled_parts_of_a_recording(tmp_path):
    write(tmp_path / "a.wav", make_noise((1.0, 0.1), (2.0, 0.0), (1.0, 0.1)), MIX_SAMPLE_RATE)
    (tmp_path / "a.txt").write_text("2.5\t4.0\tdog\n", encoding="utf-8")
    sounds = RecordedSounds.from_recordings(read_audio_list(tmp_path, tmp_path / "a.txt"), progress=False)
    [[(start, end)]] = sounds.spans
    assert 2.9 < start < 3.0 < 3.9 < end <= 4.0
    excerpt = sounds.draw(np.random.default_rng(0), 0.5)
    assert np.abs(sounds.load_waveform(excerpt)).max() > 0.05


def test_a_synthetic_sound_is_a_function_of_its_seed():
    sounds = SyntheticSounds()
    for k, name in enumerate(sounds.labels.names):
        one, two = (Excerpt(k, name, seed, 0.0, 0.5) for seed in (1, 2))
        np.testing.assert_array_equal(sounds.load_waveform(one), sounds.load_waveform(one))
        assert not np.allclose(sounds.load_waveform(one), sounds.load_waveform(two), atol=1e-3)
        assert len(sounds.load_waveform(one)) == round(0.5 * MIX_SAMPLE_RATE)
        assert np.isfinite(sounds.load_waveform(one)).all()


def test_synthetic_sounds_have_every_class_and_lengths_in_range():
    random = np.random.default_rng(0)
    excerpts = [SyntheticSounds().draw(random, 1.0) for _ in range(200)]
    assert {excerpt.class_index for excerpt in excerpts} == set(range(5))
    assert all(0.4 <= excerpt.seconds <= 1.0 for excerpt in excerpts)


def test_synthetic_classes_differ_in_their_spectra():
    """Classify coarse spectra by the nearest mean."""
    sounds = SyntheticSounds()

    def compute_features(k: int, seed: int) -> np.ndarray:
        waveform = sounds.load_waveform(Excerpt(k, "", seed, 0.0, 1.0))
        power = np.abs(np.fft.rfft(waveform.reshape(25, -1), axis=1)[:, 1:]) ** 2
        bands = np.log(np.stack([part.mean(axis=1) for part in np.array_split(power, 30, axis=1)]) + 1e-4)
        return np.concatenate([bands.mean(axis=1), bands.std(axis=1)])

    features = np.array([[compute_features(k, seed) for seed in (*range(8), *range(100, 108))] for k in range(5)])
    means = features[:, :8].mean(axis=1)
    distances = np.linalg.norm(features[:, 8:, None] - means, axis=-1)  # (class, sound, class of the mean)
    assert (distances.argmin(axis=-1) == np.arange(5)[:, None]).mean() > 0.9
