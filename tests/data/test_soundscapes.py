"""Files of scenes: pack, table, WAV and JAMS say the same; the same seed writes the same; half a run has no table."""

import csv
import json

import h5py
import numpy as np
import pytest
import soundfile

from checks import SHARED
from kerastag.data import scenes
from kerastag.data.audio_lists import audio_files
from kerastag.data.packs import AudioPack
from kerastag.data.sound_sources import SyntheticSounds
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import make_soundscapes, write_soundscapes
from kerastag.data.splits import Split

RATE = 8_000
RULES = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=1.0, snr_db=(20.0, 30.0))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two classes of tones in three folds, with silence around them."""
    root = tmp_path_factory.mktemp("sounds")
    times = np.arange(16_000) / 16_000
    for name, hertz in (("low", 300), ("high", 2500)):
        for fold in (1, 2, 3):
            waveform = np.pad(0.3 * np.sin(2 * np.pi * (hertz + 20 * fold) * times)[:8000], 4000)
            (root / name).mkdir(exist_ok=True)
            soundfile.write(root / name / f"{fold}-10{fold}-A.wav", waveform, 16_000)
    return root


def made(tree, output, **settings):
    splits = [Split.parse("bal_train=1,2"), Split.parse("eval=3")]
    settings = {"splits": splits, "counts": {"bal_train": 12, "eval": 6}, "rules": RULES, **settings}
    return make_soundscapes(tree, output, **{"sample_rate": RATE, "progress": False, **settings})


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def written(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return folder, made(tree, folder, with_audio=True, with_jams=True)


def test_pack_table_wav_and_jams_say_the_same(written):
    folder, reports = written
    assert [str(report) for report in reports] == [
        f"{folder}/{name}.h5: {count} scenes; {folder}/{name}.tsv: {len(table(folder / f'{name}.tsv'))} events"
        for name, count in (("bal_train", 12), ("eval", 6))
    ]
    for name in ("bal_train", "eval"):
        events = table(folder / f"{name}.tsv")
        with AudioPack(folder / f"{name}.h5") as pack:
            assert pack.sample_rate == RATE
            assert pack.attributes["seed"] == 0
            assert "max_event_seconds=1.0" in pack.attributes["rules"]
            classes = json.loads(pack.attributes["class_names"])
            waveforms, lengths, targets = pack.rows(range(len(pack)))
        assert (lengths == 2 * RATE).all()
        for row, clip in enumerate(pack.ids):
            own = [event for event in events if event["filename"] == clip.decode()]
            assert {event["event_label"] for event in own} == {classes[k] for k in np.flatnonzero(targets[row])}
            heard, rate = soundfile.read(folder / name / clip.decode(), dtype="int16")
            assert rate == RATE
            assert np.abs(heard.astype(int) - waveforms[row]).max() <= 2  # 32,768 there, 32,767 here
            jams = json.loads((folder / name / clip.decode()).with_suffix(".jams").read_text())
            said = [
                (e["value"], e["time"], round(e["time"] + e["duration"], 3)) for e in jams["annotations"][0]["data"]
            ]
            assert said == [(e["event_label"], float(e["onset"]), float(e["offset"])) for e in own]
            assert jams["annotations"][0]["namespace"] == "segment_open"


def test_events_sound_when_the_table_says(written):
    """A tone is above the noise where the table has an event of its class, and nowhere else."""
    folder, _ = written
    events = table(folder / "bal_train.tsv")
    with AudioPack(folder / "bal_train.h5") as pack:
        waveforms = pack.rows(range(len(pack)))[0] / 32_767
    hop = RATE // 20
    for clip, waveform in zip(pack.ids, waveforms, strict=True):
        spectrum = np.abs(np.fft.rfft(waveform.reshape(-1, hop) * np.hanning(hop), axis=1)) ** 2
        for label, hertz in (("low", 320), ("high", 2530)):
            tone = spectrum[:, round(hertz * hop / RATE) - 2 : round(hertz * hop / RATE) + 3].max(axis=1)
            own = [e for e in events if e["filename"] == clip.decode() and e["event_label"] == label]
            middles = (np.arange(len(tone)) + 0.5) * hop / RATE
            inside = np.zeros(len(tone), bool)
            near = np.zeros(len(tone), bool)
            for event in own:
                first, end = float(event["onset"]), float(event["offset"])
                inside |= (middles > first + 0.08) & (middles < end - 0.08)
                near |= (middles > first - 0.08) & (middles < end + 0.08)
            if inside.any():
                assert tone[inside].min() > 5 * tone[~near].max()


def test_no_fold_is_in_two_splits(written):
    folder, _ = written
    sources = {
        name: {
            event["source"].split("/")[1][0]
            for path in (folder / name).glob("*.jams")
            for event in json.loads(path.read_text())["annotations"][0]["sandbox"]["events"]
        }
        for name in ("bal_train", "eval")
    }
    assert sources == {"bal_train": {"1", "2"}, "eval": {"3"}}


def test_the_same_seed_writes_the_same_and_another_does_not(tree, written, tmp_path):
    made(tree, tmp_path / "again")
    made(tree, tmp_path / "other", seed=1)
    same, other = (
        [
            (tmp_path / folder / "eval.tsv").read_text() == (written[0] / "eval.tsv").read_text(),
            np.array_equal(waveforms(tmp_path / folder / "eval.h5"), waveforms(written[0] / "eval.h5")),
        ]
        for folder in ("again", "other")
    )
    assert same == [True, True]
    assert other == [False, False]


def waveforms(path):
    with h5py.File(path) as file:
        return file["waveform"][:]


def test_a_background_of_recordings_sounds_behind(tree, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "behind").mkdir(exist_ok=True)
        hum = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
        soundfile.write(tmp_path / "behind" / f"{name}.wav", hum, 16_000)
    made(tree, tmp_path, background_dir=tmp_path / "behind")
    spectrum = np.abs(np.fft.rfft(waveforms(tmp_path / "eval.h5")[0] / 32_767.0)) ** 2
    assert spectrum[1995:2006].sum() > 100 * spectrum[2100:2300].sum()


def test_a_stopped_run_has_no_table_and_goes_on(tmp_path, monkeypatch):
    render, rendered = scenes.Mixer.render, []

    def stops(self, scene, rate):
        rendered.append(scene)
        if len(rendered) == 40:
            raise KeyboardInterrupt
        return render(self, scene, rate)

    rules = SoundscapeConfig(soundscape_seconds=0.5, max_event_seconds=0.3)
    settings = {"sample_rate": RATE, "rules": rules, "progress": False}
    write_soundscapes(SyntheticSounds(), tmp_path / "whole", "eval", 50, **settings)
    write_soundscapes(SyntheticSounds(), tmp_path, "eval", 50, seed=1, **settings)
    monkeypatch.setattr(scenes.Mixer, "render", stops)
    with pytest.raises(KeyboardInterrupt):
        write_soundscapes(SyntheticSounds(), tmp_path, "eval", 50, **settings)
    assert not (tmp_path / "eval.tsv").exists()
    before = len(rendered)
    write_soundscapes(SyntheticSounds(), tmp_path, "eval", 50, **settings)
    assert len(rendered) - before == 50 - 32
    np.testing.assert_array_equal(waveforms(tmp_path / "eval.h5"), waveforms(tmp_path / "whole/eval.h5"))
    assert (tmp_path / "eval.tsv").read_text() == (tmp_path / "whole/eval.tsv").read_text()


def test_bad_arguments_are_named_before_anything_is_written(tree, tmp_path):
    for settings, message in (
        ({"counts": {"train": 3}}, "`counts` must be of splits, received 'train'"),
        ({"counts": {"eval": 0}, "splits": [Split.parse("eval=3")]}, "`count` must be at least 1, received 0 for eval"),
        ({"sample_rate": 10}, "`sample_rate` must be"),
        ({"splits": [Split.parse("bal_train=50%"), Split.parse("eval=1%")]}, "split eval: no recording of high, low"),
    ):
        with pytest.raises(ValueError, match=message):
            made(tree, tmp_path, **settings)
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.real
def test_esc10_becomes_scenes_of_ten_seconds(tmp_path):
    files = [f for f in audio_files(SHARED / "data/esc10") if f.name[0] in "45"][::4]
    lines = [f"{path},{path.parts[0]},{path.name[0]}" for path in files]
    (tmp_path / "some.csv").write_text("\n".join(["path,labels,fold", *lines]))
    splits = [Split.parse("bal_train=4"), Split.parse("eval=5")]
    counts = {"bal_train": 3, "eval": 3}
    make_soundscapes(
        SHARED / "data/esc10", tmp_path, list_file=tmp_path / "some.csv", splits=splits, counts=counts, progress=False
    )
    with AudioPack(tmp_path / "eval.h5") as pack:
        heard = pack.rows(range(3))[0] / 32_767
        assert pack.x_shape == (3, 320_000)
        assert len(json.loads(pack.attributes["class_names"])) == 10
    levels = 20 * np.log10(heard.std(axis=1))
    assert ((levels > -56) & (levels < -5)).all()
    assert np.abs(heard).max() <= 0.951
    assert all(0 <= float(e["onset"]) < float(e["offset"]) <= 10 for e in table(tmp_path / "eval.tsv"))
