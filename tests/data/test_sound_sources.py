"""Sounds in recordings: found by their energy, whatever the blocks; silence and damage named by file."""

import numpy as np
import pytest
import soundfile

from kerastag.data.audio_lists import AudioList, Recording, read_class_folders, read_labels_csv
from kerastag.data.sound_sources import RecordedBackground, RecordedSounds, find_sounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE


def sound(*parts):
    """`(seconds, amplitude)` one after the other -> noise at `MIX_SAMPLE_RATE`."""
    random = np.random.default_rng(0)
    return np.concatenate([a * random.uniform(-1, 1, round(s * MIX_SAMPLE_RATE)) for s, a in parts])


def write(path, waveform, rate=MIX_SAMPLE_RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate)


@pytest.fixture
def tree(tmp_path):
    for name in ("cat/1-a", "cat/2-b", "dog/1-c"):
        write(tmp_path / "sounds" / f"{name}.wav", sound((0.4, 0), (0.6, 0.5), (0.5, 0)))
    return tmp_path / "sounds"


def test_a_sound_lasts_from_its_first_loud_frame_to_its_last():
    (part,) = find_sounds([sound((1.0, 0.0001), (0.5, 0.3), (2.0, 0.0001))])
    assert part == (pytest.approx(0.98), pytest.approx(1.52))
    assert find_sounds([sound((0.5, 0.3))]) == [(0.0, 0.5)]


def test_a_short_pause_belongs_to_the_sound_and_a_long_one_parts_two():
    assert len(find_sounds([sound((0.5, 0.3), (0.9, 0), (0.5, 0.3))])) == 1
    assert find_sounds([sound((0.5, 0.3), (1.5, 0), (0.5, 0.2))]) == [(0.0, 0.52), (1.98, 2.5)]


def test_what_is_much_quieter_than_the_loudest_is_no_sound_of_its_own():
    assert find_sounds([sound((0.5, 0.3), (1.5, 0), (0.5, 0.03))]) == [(0.0, 0.52)]
    # Beside the sound it belongs to it.
    assert find_sounds([sound((0.5, 0.3), (0.5, 0.03), (1, 0))]) == [(0.0, 1.02)]


def test_a_constant_is_silence():
    assert find_sounds([np.full(MIX_SAMPLE_RATE, 0.3)]) == []
    assert find_sounds([]) == []
    (part,) = find_sounds([0.3 + sound((0.5, 0), (0.5, 0.3))])
    assert part == (pytest.approx(0.48), 1.0)


def test_the_blocks_change_nothing():
    waveform = sound((0.33, 0), (0.5, 0.3), (1.2, 0), (0.41, 0.2), (0.1, 0))
    assert find_sounds(np.array_split(waveform, 17)) == find_sounds([waveform])


def test_events_are_cut_from_the_sounds_of_every_class(tree):
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    random = np.random.default_rng(0)
    drawn = [sounds.draw(random, 0.25) for _ in range(60)]
    assert {(e.class_index, e.source) for e in drawn} == {(0, "cat/1-a.wav"), (0, "cat/2-b.wav"), (1, "dog/1-c.wav")}
    assert all(e.seconds == 0.25 and 0.38 <= e.start_seconds <= 0.771 for e in drawn)
    assert len({e.start_seconds for e in drawn}) > 20
    excerpt = sounds.draw(random, 5.0)
    assert (excerpt.start_seconds, excerpt.seconds) == (0.38, 0.64)
    heard = sounds.load_waveform(excerpt)
    assert len(heard) == round(0.64 * MIX_SAMPLE_RATE)
    whole, _ = soundfile.read(sounds.clips.recordings[excerpt.number].path)
    first = round(0.38 * MIX_SAMPLE_RATE)
    np.testing.assert_allclose(heard, whole[first : first + len(heard)], atol=1e-6)


def test_silence_and_damage_are_named_or_left_out(tree, capsys):
    write(tree / "cat/silent.wav", np.zeros(MIX_SAMPLE_RATE))
    with pytest.raises(ValueError, match=r"cat/silent\.wav: nothing but silence in it"):
        RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    (tree / "dog/bad.wav").write_bytes(b"RIFF not audio at all")
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), skip_corrupt=True, progress=False)
    assert [r.name for r in sounds.clips.recordings] == ["cat/1-a.wav", "cat/2-b.wav", "dog/1-c.wav"]
    said = capsys.readouterr().err
    assert "left out: " in said
    assert "silent.wav" in said
    assert "bad.wav" in said


def test_a_class_without_recordings_is_named_with_the_split(tree):
    sounds = RecordedSounds.from_recordings(read_class_folders(tree), progress=False)
    assert len(sounds.select([1, 2], "eval").clips) == 2
    with pytest.raises(ValueError, match="sounds, split eval: no recording of dog"):
        sounds.select([0, 1], "eval")


def test_a_recording_of_two_classes_is_no_event(tree):
    (tree / "list.csv").write_text("path,labels\ncat/1-a.wav,cat;dog\ndog/1-c.wav,dog\n")
    with pytest.raises(ValueError, match=r"cat/1-a\.wav must have one label to be an event, has cat, dog"):
        RecordedSounds.from_recordings(read_labels_csv(tree / "list.csv"), progress=False)


def test_parts_are_asked_for(tree):
    clips = read_class_folders(tree)
    assert isinstance(clips, AudioList)
    assert isinstance(clips.recordings[0], Recording)
    with pytest.raises(ValueError, match="nothing but silence"):
        RecordedSounds(clips, [[(0.0, 1.0)], [], [(0.0, 1.0)]])


def test_backgrounds_are_shared_out_between_splits(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.wav", sound((1.0, 0.1)), MIX_SAMPLE_RATE)
    parts = [RecordedBackground(tmp_path, i, 2) for i in range(2)]
    random = np.random.default_rng(0)
    names = [{part.draw(random, 0.5).source for _ in range(20)} for part in parts]
    assert names == [{"a.wav", "c.wav"}, {"b.wav"}]
    assert len(parts[0].load_waveform(parts[0].draw(random, 0.5))) == round(0.5 * MIX_SAMPLE_RATE)
    assert parts[0].draw(random, 9.0).seconds == 1.0
    with pytest.raises(ValueError, match="must hold at least 4 recordings, one a split, has 3"):
        RecordedBackground(tmp_path, 0, 4)
    with pytest.raises(FileNotFoundError, match="`background_dir`: .*none: no such folder"):
        RecordedBackground(tmp_path / "none")
    write(tmp_path / "b.wav", np.zeros(MIX_SAMPLE_RATE))
    with pytest.raises(ValueError, match=r"b\.wav: nothing but silence in it"):
        RecordedBackground(tmp_path)
