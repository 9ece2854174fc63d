"""The recipes that learn from sound: each trains, is measured, measured again, and leaves a tagger with its card."""

import importlib
import json
import pkgutil
import re
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

import kerastag.recipes
from checks import SHARED
from kerastag._configs import list_configs
from kerastag.card import Card
from kerastag.data.audio_lists import AudioList, read_tree
from kerastag.data.audio_pack_writer import pack_audio
from kerastag.data.mixing import SceneRules
from kerastag.data.synthetic import write_synthetic_packs
from kerastag.data.synthetic_events import SYNTHETIC_EVENTS, write_synthetic_scenes
from kerastag.models import MODELS
from kerastag.recipes._command import parse
from kerastag.recipes._data import load
from kerastag.recipes._network import batches, build_models
from kerastag.recipes._waveform import WaveformSettings
from kerastag.recipes.evaluate import evaluate
from kerastag.training.fit import compiled

NAMES = ("cnn10", "resnet38", "talnet", "at_sca", "mn")
RULES = SceneRules(scene_seconds=2.0, max_event_seconds=1.0, max_events=2)


NARROW = {"width": 0.0625, "batch_size": 2, "crop_seconds": 1.0, "sub_clip_seconds": 0.5}
# What says nothing of the batches, nor of the model but how many sub-clips it cuts.
ASIDE = ("data_dir", "run_dir", "train_packs", "steps", "evaluate_every", "checkpoints", "num_sub_clips", *NARROW)


def recipe(name):
    return importlib.import_module(f"kerastag.recipes.{name}")


def tomls_by_model():
    """TOMLs that make the same narrow model and batches, together: a recipe and their names.

    Less those that `test_trains_and_leaves_a_tagger` runs.
    """
    names = [module.name for module in pkgutil.iter_modules(kerastag.recipes.__path__) if module.name[0] != "_"]
    names = [name for name in names if issubclass(getattr(recipe(name), "Settings", object), WaveformSettings)]
    groups = {}
    for toml in sorted(set(list_configs("recipes")) - {f"{name}_synthetic" for name in NAMES}):
        name = max((name for name in names if f"{toml}_".startswith(f"{name}_")), key=len, default=None)
        if name is not None:
            values = asdict(parse(recipe(name).Settings, name, ["--config", toml]))
            alike = name, repr(sorted((key, value) for key, value in values.items() if key not in ASIDE))
            groups.setdefault(alike, []).append(toml)
    return [pytest.param(name, tomls, id="+".join(tomls)) for (name, _), tomls in groups.items()]


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folders = {rate: tmp_path_factory.mktemp(f"packs_{rate}") for rate in (16_000, 32_000)}
    for rate, folder in folders.items():
        write_synthetic_scenes(folder, sample_rate=rate, counts={"bal_train": 24, "eval": 12}, rules=RULES)
    return folders


def arguments(name, packs, run_dir, *more):
    rate = 16_000 if name == "talnet" else 32_000
    small = ("--width", "0.0625", "--steps", "2", "--batch_size", "4", "--checkpoints", "2", "--crop_seconds", "1")
    return ["--data_dir", str(packs[rate]), "--run_dir", str(run_dir), *small, *more]


@pytest.mark.parametrize("name", ["cnn10", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_trains_and_leaves_a_tagger(name, packs, tmp_path, capsys):
    assert recipe(name).main(["--config", f"{name}_synthetic", *arguments(name, packs, tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mAP 0.")
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["evaluated"] == "eval"
    assert found["labels"]["names"] == list(SYNTHETIC_EVENTS)
    card = Card.read(tmp_path / "run/model.keras")
    assert card.labels.names == tuple(SYNTHETIC_EVENTS)
    assert card.sample_rate == (16_000 if name == "talnet" else 32_000)
    assert card.window_seconds == 2
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    assert model(np.zeros((1, card.sample_rate), "float32"))["clipwise"].shape == (1, len(SYNTHETIC_EVENTS))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tomls"), tomls_by_model())
def test_a_toml_makes_a_model_that_learns_from_its_batches(name, tomls, packs, tmp_path):
    """One step of a narrow model, at the TOML's own precision, mixing and masking; full widths are built elsewhere."""
    for toml in tomls:
        if number := re.search(r"_clips_(\d)", toml):
            assert parse(recipe(name).Settings, name, ["--config", toml]).num_sub_clips == int(number[1])
    settings = parse(recipe(name).Settings, name, ["--config", tomls[0]])
    narrow = {key: value for key, value in NARROW.items() if hasattr(settings, key)}
    # Warming up begins at a rate of zero.
    settings = replace(settings, **narrow, train_packs=("bal_train",), warmup_steps=0)
    if getattr(settings, "initial_weights", None):
        MODELS[settings.backbone].build(num_classes=3, width=settings.width).save(tmp_path / "theirs.keras")
        settings = replace(settings, initial_weights=str(tmp_path / "theirs.keras"))
    data = load(settings, packs[settings.front_end.sample_rate])
    _, model = build_models(settings, recipe(name).build, data)
    waveforms, targets = next(iter(batches(settings, data)(0, 1)))
    model = compiled(model, settings)
    model.run_eagerly = True
    before = [weight.numpy() for weight in model.trainable_weights]
    assert np.isfinite(model.train_on_batch(waveforms, targets))
    moved = [not np.array_equal(weight, old) for weight, old in zip(model.trainable_weights, before, strict=True)]
    assert sum(moved) > len(moved) / 4  # zero gammas keep the branches of ResNet38 still in the first step


@pytest.mark.parametrize(("factor", "expected"), [("1", (0.2, 0.5)), ("0.5", (0.1, 0.25)), ("0", (0, 0))])
def test_dropout_factor_multiplies_every_rate(factor, expected, packs):
    settings = parse(recipe("cnn10").Settings, "cnn10", arguments("cnn10", packs, "run", "--dropout_factor", factor))
    model = recipe("cnn10").build(settings, load(settings, packs[settings.front_end.sample_rate]))
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    blocks = {f"conv_block{block}_drop": expected[0] for block in (1, 2, 3, 4)}
    assert rates == {**blocks, "drop_features": expected[1], "drop_hidden": expected[1]}


def test_dropout_factor_above_one_is_refused():
    with pytest.raises(ValueError, match=r"`dropout_factor` must be from 0 to 1, received 1\.5"):
        recipe("mn").Settings(dropout_factor=1.5)


def test_measured_again_from_its_files_gives_the_same(packs, tmp_path):
    assert recipe("cnn10").main(arguments("cnn10", packs, tmp_path / "run")) == 0
    kept = json.loads((tmp_path / "run/metrics.json").read_text())["ensemble"]
    assert evaluate(tmp_path / "run").map == pytest.approx(kept["map"], abs=1e-9)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.real
def test_cnn10_at_full_width_trains_on_esc10(tmp_path):
    clips = read_tree(SHARED / "data" / "esc10")
    for split, rows in (("bal_train", range(0, 400, 20)), ("eval", range(5, 400, 40))):
        some = AudioList(tuple(clips.recordings[i] for i in rows), clips.labels, (), clips.source)
        pack_audio(some, tmp_path / f"{split}.h5", sub_clip_seconds=5.0, progress=False)
    run = ["--data_dir", str(tmp_path), "--run_dir", str(tmp_path / "run")]
    assert recipe("cnn10").main([*run, "--steps", "3", "--batch_size", "4", "--checkpoints", "1"]) == 0
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["parameters"] > 4_900_000
    assert np.isfinite(found["ensemble"]["map"])
