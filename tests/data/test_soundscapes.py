"""Files of soundscapes: pack, table, WAV and JAMS agree, and are the same for the same seed."""

import csv
import json

import h5py
import numpy as np
import pytest
import soundfile

from checks import SHARED
from kerastag.audio.formats import find_audio_files
from kerastag.data import audio_pack_writer, soundscapes
from kerastag.data.packs import AudioPack
from kerastag.data.sound_sources import SYNTHETIC_EVENTS, SyntheticSounds
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import make_soundscapes, write_soundscapes, write_synthetic_soundscapes
from kerastag.data.splits import Split

RATE = 8_000
CONFIG = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=1.0, snr_db=(20.0, 30.0))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Write two classes of tones in three folds, with silence around them."""
    root = tmp_path_factory.mktemp("sounds")
    times = np.arange(16_000) / 16_000
    for name, hertz in (("low", 300), ("high", 2500)):
        for fold in (1, 2, 3):
            waveform = np.pad(0.3 * np.sin(2 * np.pi * (hertz + 20 * fold) * times)[:8000], 4000)
            (root / name).mkdir(exist_ok=True)
            soundfile.write(root / name / f"{fold}-10{fold}-A.wav", waveform, 16_000)
    return root


def mix(tree, output, **options):
    splits = [Split.parse("bal_train=1,2"), Split.parse("eval=3")]
    options = {"splits": splits, "counts": {"bal_train": 12, "eval": 6}, "config": CONFIG, **options}
    return make_soundscapes(tree, output, **{"sample_rate": RATE, "progress": False, **options})


def read_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def written(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("soundscapes")
    return folder, mix(tree, folder, with_audio=True, with_jams=True)


def test_pack_table_wav_and_jams_agree(written):
    folder, reports = written
    assert [str(report) for report in reports] == [
        f"{folder}/{name}.h5: {count} soundscapes; {table}: {len(read_table(table))} events"
        for name, count, table in (("bal_train", 12, folder / "bal_train.tsv"), ("eval", 6, folder / "eval.tsv"))
    ]
    for name in ("bal_train", "eval"):
        events = read_table(folder / f"{name}.tsv")
        with AudioPack(folder / f"{name}.h5") as pack:
            assert pack.sample_rate == RATE
            assert pack.attributes["seed"] == 0
            assert "max_event_seconds=1.0" in pack.attributes["config"]
            classes = json.loads(pack.attributes["class_names"])
            waveforms, lengths, targets = pack.rows(range(len(pack)))
        assert (lengths == 2 * RATE).all()
        for row, clip in enumerate(pack.ids):
            own = [event for event in events if event["filename"] == clip.decode()]
            assert {event["event_label"] for event in own} == {classes[k] for k in np.flatnonzero(targets[row])}
            samples, rate = soundfile.read(folder / name / clip.decode(), dtype="int16")
            assert rate == RATE
            # Full scale is 32,768 in WAV files, 32,767 in packs.
            assert np.abs(samples.astype(int) - waveforms[row]).max() <= 2
            jams = json.loads((folder / name / clip.decode()).with_suffix(".jams").read_text(encoding="utf-8"))
            data = jams["annotations"][0]["data"]
            annotated = [(e["value"], e["time"], round(e["time"] + e["duration"], 3)) for e in data]
            assert annotated == [(e["event_label"], float(e["onset"]), float(e["offset"])) for e in own]
            assert jams["annotations"][0]["namespace"] == "segment_open"


def test_events_are_audible_at_their_times_in_the_table(written):
    """Check that a tone is above the noise during the events of its class, and at no other time."""
    folder, _ = written
    events = read_table(folder / "bal_train.tsv")
    with AudioPack(folder / "bal_train.h5") as pack:
        waveforms = pack.rows(range(len(pack)))[0] / 32_767
    hop = RATE // 20
    for clip, waveform in zip(pack.ids, waveforms, strict=True):
        spectrum = np.abs(np.fft.rfft(waveform.reshape(-1, hop) * np.hanning(hop), axis=1)) ** 2
        for label, hertz in (("low", 320), ("high", 2530)):
            tone = spectrum[:, round(hertz * hop / RATE) - 2 : round(hertz * hop / RATE) + 3].max(axis=1)
            own = [e for e in events if e["filename"] == clip.decode() and e["event_label"] == label]
            middles = (np.arange(len(tone)) + 0.5) * hop / RATE
            inside, near = np.zeros((2, len(tone)), bool)
            for event in own:
                first, end = float(event["onset"]), float(event["offset"])
                inside |= (middles > first + 0.08) & (middles < end - 0.08)
                near |= (middles > first - 0.08) & (middles < end + 0.08)
            if inside.any():
                assert tone[inside].min() > 5 * tone[~near].max()


def test_splits_share_no_fold(written):
    for name, folds in (("bal_train", {"1", "2"}), ("eval", {"3"})):
        annotations = [
            json.loads(path.read_text(encoding="utf-8"))["annotations"][0]
            for path in (written[0] / name).glob("*.jams")
        ]
        events = [event for annotation in annotations for event in annotation["sandbox"]["events"]]
        assert {event["source"].split("/")[1][0] for event in events} == folds


def test_the_files_are_a_function_of_the_seed(tree, written, tmp_path):
    for folder, seed in (("again", 0), ("other", 1)):
        mix(tree, tmp_path / folder, seed=seed, counts={"bal_train": 1, "eval": 6})
        tables = [(path / "eval.tsv").read_text(encoding="utf-8") for path in (tmp_path / folder, written[0])]
        waveforms = [read_waveforms(path / "eval.h5") for path in (tmp_path / folder, written[0])]
        assert (tables[0] == tables[1]) is np.array_equal(*waveforms) is (seed == 0)


def read_waveforms(path):
    with h5py.File(path) as file:
        return file["waveform"][:]


def test_background_recordings_are_mixed_in(tree, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "backgrounds").mkdir(exist_ok=True)
        hum = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
        soundfile.write(tmp_path / "backgrounds" / f"{name}.wav", hum, 16_000)
    mix(tree, tmp_path, background_dir=tmp_path / "backgrounds", counts={"bal_train": 1, "eval": 1})
    spectrum = np.abs(np.fft.rfft(read_waveforms(tmp_path / "eval.h5")[0] / 32_767.0)) ** 2
    assert spectrum[1995:2006].sum() > 100 * spectrum[2100:2300].sum()


def test_an_interrupted_call_leaves_no_table_and_is_resumed(tmp_path, monkeypatch):
    render, rendered = soundscapes.SoundscapeMixer.render, []

    def render_until_interrupted(self, soundscape, rate):
        rendered.append(soundscape)
        if len(rendered) == 7:
            raise KeyboardInterrupt
        return render(self, soundscape, rate)

    monkeypatch.setattr(audio_pack_writer, "_BLOCK_CLIPS", 4)
    config = SoundscapeConfig(soundscape_seconds=0.5, max_event_seconds=0.3)
    options = {"sample_rate": RATE, "config": config, "progress": False}
    write_soundscapes(SyntheticSounds(), tmp_path / "whole", "eval", 10, **options)
    write_soundscapes(SyntheticSounds(), tmp_path, "eval", 10, seed=1, **options)
    monkeypatch.setattr(soundscapes.SoundscapeMixer, "render", render_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_soundscapes(SyntheticSounds(), tmp_path, "eval", 10, **options)
    assert not (tmp_path / "eval.tsv").exists()
    before = len(rendered)
    write_soundscapes(SyntheticSounds(), tmp_path, "eval", 10, **options)
    assert len(rendered) - before == 10 - 4
    np.testing.assert_array_equal(read_waveforms(tmp_path / "eval.h5"), read_waveforms(tmp_path / "whole/eval.h5"))
    assert (tmp_path / "eval.tsv").read_text(encoding="utf-8") == (tmp_path / "whole/eval.tsv").read_text(
        encoding="utf-8"
    )


def test_faulty_arguments_are_refused_before_anything_is_written(tree, tmp_path):
    for options, message in (
        ({"counts": {"train": 3}}, "`counts` must be of the splits bal_train, eval; received: 'train'"),
        ({"counts": {"bal_train": 0}}, "`count` must be at least 1; received: 0 for bal_train"),
        ({"sample_rate": 10}, "`sample_rate` must be"),
        ({"splits": [Split.parse("bal_train=50%"), Split.parse("eval=1%")]}, "split eval: no recording of high, low"),
    ):
        with pytest.raises(ValueError, match=message):
            mix(tree, tmp_path, **options)
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.* passed over")
def test_esc10_is_mixed_into_soundscapes_of_ten_seconds(tmp_path):
    files = [f for f in find_audio_files(SHARED / "data/esc10") if f.name[0] in "45"][::4]
    lines = [f"{path},{path.parts[0]},{path.name[0]}" for path in files]
    (tmp_path / "some.csv").write_text("\n".join(["path,labels,fold", *lines]), encoding="utf-8")
    splits = [Split.parse("bal_train=4"), Split.parse("eval=5")]
    counts = {"bal_train": 1, "eval": 2}
    make_soundscapes(
        SHARED / "data/esc10", tmp_path, list_file=tmp_path / "some.csv", splits=splits, counts=counts, progress=False
    )
    with AudioPack(tmp_path / "eval.h5") as pack:
        waveforms = pack.rows(range(2))[0] / 32_767
        assert pack.x_shape == (2, 320_000)
        assert len(json.loads(pack.attributes["class_names"])) == 10
    levels = 20 * np.log10(waveforms.std(axis=1))
    assert ((levels > -56) & (levels < -5)).all()
    assert np.abs(waveforms).max() <= 0.951
    assert all(0 <= float(e["onset"]) < float(e["offset"]) <= 10 for e in read_table(tmp_path / "eval.tsv"))


def test_synthetic_soundscapes_are_packs_for_recipes(tmp_path):
    config = SoundscapeConfig(soundscape_seconds=1.0, max_events=2)
    counts = {"bal_train": 15, "eval": 2}
    reports = write_synthetic_soundscapes(tmp_path, sample_rate=8_000, counts=counts, config=config)
    assert [report.pack.name for report in reports.values()] == ["bal_train.h5", "eval.h5"]
    with AudioPack(tmp_path / "bal_train.h5") as pack:
        assert pack.sample_rate == 8_000
        assert pack.x_shape == (15, 8_000)
        assert pack.targets.any(axis=0).all()
        assert json.loads(pack.attributes["class_names"]) == list(SYNTHETIC_EVENTS)
