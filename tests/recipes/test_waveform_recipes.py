"""The recipes that learn from sound: each trains, is measured, measured again, and leaves a tagger with its card."""

import importlib
import json

import keras
import numpy as np
import pytest

from checks import SHARED
from kerastag.card import Card
from kerastag.data.audio_lists import AudioList, read_tree
from kerastag.data.audio_pack import AudioPack, pack_audio
from kerastag.data.synthetic import write_synthetic_packs
from kerastag.recipes._waveform_synthetic import SOUNDS, synthetic_clip, write_sound_packs
from kerastag.recipes.evaluate import evaluate

NAMES = ("cnn10", "resnet38", "talnet", "at_sca", "mn")


def recipe(name):
    return importlib.import_module(f"kerastag.recipes.{name}")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folders = {rate: tmp_path_factory.mktemp(f"packs_{rate}") for rate in (16_000, 32_000)}
    for rate, folder in folders.items():
        write_sound_packs(folder, sample_rate=rate, num_train=24, num_eval=12)
    return folders


def arguments(name, packs, run_dir, *more):
    rate = 16_000 if name == "talnet" else 32_000
    small = ("--width", "0.0625", "--steps", "2", "--batch_size", "4", "--checkpoints", "2", "--crop_seconds", "1")
    return ["--data_dir", str(packs[rate]), "--run_dir", str(run_dir), *small, *more]


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_leaves_a_tagger(name, packs, tmp_path, capsys):
    assert recipe(name).main(arguments(name, packs, tmp_path / "run")) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mAP 0.")
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["evaluated"] == "eval"
    assert found["labels"]["names"] == list(SOUNDS)
    card = Card.read(tmp_path / "run/model.keras")
    assert card.labels.names == tuple(SOUNDS)
    assert card.sample_rate == (16_000 if name == "talnet" else 32_000)
    assert card.window_seconds == 2
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    assert model(np.zeros((1, card.sample_rate), "float32"))["clipwise"].shape == (1, len(SOUNDS))


def test_measured_again_from_its_files_gives_the_same(packs, tmp_path):
    assert recipe("cnn10").main(arguments("cnn10", packs, tmp_path / "run")) == 0
    kept = json.loads((tmp_path / "run/metrics.json").read_text())["ensemble"]
    assert evaluate(tmp_path / "run").map == pytest.approx(kept["map"], abs=1e-9)


def test_an_interrupted_run_ends_with_the_same_weights(packs, tmp_path, monkeypatch):
    from kerastag.training.fit import RunCallback

    whole, stopped = (arguments("cnn10", packs, tmp_path / n, "--save_every", "1") for n in ("whole", "stopped"))
    assert recipe("cnn10").main(whole) == 0
    save = RunCallback._save

    def dies(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunCallback, "_save", dies)
    assert recipe("cnn10").main(stopped) == 130
    monkeypatch.setattr(RunCallback, "_save", save)
    assert recipe("cnn10").main(stopped) == 0
    a, b = (keras.saving.load_model(tmp_path / n / "model.keras", compile=False) for n in ("whole", "stopped"))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_packs_of_another_rate_or_kind_are_refused_by_name(packs, tmp_path, capsys):
    wrong = arguments("talnet", {16_000: packs[32_000]}, tmp_path / "a")
    assert recipe("talnet").main(wrong) == 1
    said = capsys.readouterr().err
    assert "bal_train.h5: must hold waveforms of 16000 Hz, has 32000 Hz" in said
    assert "kerastag pack audio --sample_rate 16000" in said
    write_synthetic_packs(tmp_path / "embeddings", num_train=50, num_eval=50, num_classes=3)
    assert recipe("cnn10").main(arguments("cnn10", {32_000: tmp_path / "embeddings"}, tmp_path / "b")) == 1
    assert "holds embeddings; this system learns from waveforms" in capsys.readouterr().err
    few = ["--data_dir", str(packs[32_000]), "--run_dir", str(tmp_path / "c"), "--steps", "2", "--batch_size", "4"]
    assert recipe("es_average").main(few) == 1
    assert "holds waveforms; this system learns from embeddings" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("width", "0"), ("crop_seconds", "-1")])
def test_settings_out_of_range(packs, tmp_path, capsys, flag, value):
    assert recipe("mn").main(["--data_dir", str(packs[32_000]), f"--{flag}", value]) == 1
    assert f"`{flag}` must be" in capsys.readouterr().err


def test_synthetic_sounds_are_seeded_and_all_there(tmp_path):
    first, again = (synthetic_clip(16_000, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    write_sound_packs(tmp_path, sample_rate=16_000, num_train=60, num_eval=8)
    with AudioPack(tmp_path / "bal_train.h5") as pack:
        assert pack.targets.any(axis=0).all()
        assert set(pack.targets.sum(axis=1)) == {1, 2}


@pytest.mark.real
def test_cnn10_at_full_width_trains_on_esc10(tmp_path):
    clips = read_tree(SHARED / "data" / "esc10")
    for split, rows in (("bal_train", range(0, 400, 20)), ("eval", range(5, 400, 40))):
        some = AudioList(tuple(clips.recordings[i] for i in rows), clips.labels, (), clips.source)
        pack_audio(some, tmp_path / f"{split}.h5", clip_seconds=5.0, progress=False)
    run = ["--data_dir", str(tmp_path), "--run_dir", str(tmp_path / "run")]
    assert recipe("cnn10").main([*run, "--steps", "3", "--batch_size", "4", "--checkpoints", "1"]) == 0
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["parameters"] > 4_900_000
    assert np.isfinite(found["ensemble"]["map"])
