"""Tests of the recipes that take waveforms: each trains, is evaluated twice, and saves a tagger with its card."""

import importlib
import json
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

from checks import SHARED
from kerastag.card import Card
from kerastag.data.audio_list_reading import read_class_folders
from kerastag.data.audio_lists import AudioList
from kerastag.data.audio_pack_writer import pack_audio
from kerastag.data.sound_sources import SYNTHETIC_EVENTS
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import write_synthetic_soundscapes
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.models import MODELS
from kerastag.recipes._evaluation import evaluate_run
from kerastag.recipes._papers import PAPERS, read_paper
from kerastag.training.optimization import compile_model
from kerastag.training.run_data import load_run_data, make_sampler
from kerastag.training.run_folder import RunFolder
from kerastag.training.trainer import build_models

NAMES = ("cnn10", "resnet38", "talnet", "at_sca", "mn")
SOUNDSCAPES = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=1.0, max_events=2)
NARROW = {"width": 0.0625, "batch_size": 2, "crop_seconds": 1.0, "sub_clip_seconds": 0.5}
# Fields that change neither the batches nor the model, except for its width and number of sub-clips.
IRRELEVANT = ("data_dir", "run_dir", "train_packs", "steps", "evaluate_every", "checkpoints", "num_sub_clips", *NARROW)


def find_recipe(name):
    return importlib.import_module(f"kerastag.recipes.{name}").RECIPE


def find_sample_rate(config, name):
    return 16_000 if "talnet" in (name, getattr(config, "backbone", "")) else 32_000


def group_configurations():
    """Group the rows of both papers, and of overlays, by the narrow model and batches that they make.

    The overlay `balanced` is tried with one row of each recipe and backbone.
    """
    rows = [row for paper in PAPERS for row in read_paper(paper).rows.values()]
    cases = [(row.recipe, ("--row", row.name)) for row in rows]
    backbones = {}
    for name, arguments in cases:
        if find_recipe(name).kind in ("waveforms", "two_streams"):
            backbones.setdefault((name, getattr(find_recipe(name).parse(arguments), "backbone", "")), arguments)
    cases += [(name, (*arguments, "--config", "balanced")) for (name, _), arguments in backbones.items()]
    cases += [(name, ("--config", "esc10")) for name in ("cnn10", "mn", "gl_at")]
    groups = {}
    for name, arguments in cases:
        if find_recipe(name).kind in ("waveforms", "two_streams"):
            values = asdict(find_recipe(name).parse(arguments))
            key = name, repr(sorted((field, value) for field, value in values.items() if field not in IRRELEVANT))
            groups.setdefault(key, []).append(arguments)
    return [pytest.param(name, cases[0], id=f"{name} {' '.join(cases[0])}") for (name, _), cases in groups.items()]


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folders = {rate: tmp_path_factory.mktemp(f"packs_{rate}") for rate in (16_000, 32_000)}
    for rate, folder in folders.items():
        write_synthetic_soundscapes(folder, sample_rate=rate, counts={"bal_train": 24, "eval": 12}, config=SOUNDSCAPES)
    return folders


def make_arguments(name, packs, run_dir, *more):
    rate = 16_000 if name == "talnet" else 32_000
    small = ("--width", "0.0625", "--steps", "2", "--batch-size", "4", "--checkpoints", "2", "--crop-seconds", "1")
    return ["--data-dir", str(packs[rate]), "--run-dir", str(run_dir), *small, *more]


@pytest.mark.parametrize("name", ["cnn10", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_a_recipe_trains_and_saves_a_tagger(name, packs, tmp_path, capsys):
    arguments = ["--config", "synthetic", *make_arguments(name, packs, tmp_path / "run")]
    assert find_recipe(name).main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mAP 0.")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert metrics["evaluated"] == "eval"
    assert metrics["labels"]["names"] == list(SYNTHETIC_EVENTS)
    card = Card.read(tmp_path / "run/model.keras")
    assert card.labels.names == tuple(SYNTHETIC_EVENTS)
    assert card.sample_rate == (16_000 if name == "talnet" else 32_000)
    assert card.window_seconds == 2
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    assert model(np.zeros((1, card.sample_rate), "float32"))["clipwise"].shape == (1, len(SYNTHETIC_EVENTS))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), group_configurations())
def test_a_configuration_makes_a_model_that_learns_from_its_batches(name, arguments, packs, tmp_path):
    """Train a narrow model for one step, with the precision, mixing and masking of the configuration."""
    recipe = find_recipe(name)
    config = recipe.parse(arguments)
    narrow = {field: value for field, value in NARROW.items() if hasattr(config, field)}
    # A warm-up starts at a learning rate of zero.
    config = replace(config, **narrow, train_packs=("bal_train",), warmup_steps=0)
    if getattr(config, "initial_weights", None):
        num_classes = len(SYNTHETIC_EVENTS) if config.freeze_global else 3
        MODELS[config.backbone].build(num_classes=num_classes, width=config.width).save(tmp_path / "other.keras")
        config = replace(config, initial_weights=str(tmp_path / "other.keras"))
    data = load_run_data(config, packs[find_sample_rate(config, name)])
    _, model = build_models(recipe.task, config, data)
    waveforms, targets = recipe.task.batches(
        config, data, make_sampler(config, data), RunFolder(tmp_path, name, {})
    ).batch(0)
    model = compile_model(model, config)
    model.run_eagerly = True
    before = [weight.numpy() for weight in model.trainable_weights]
    assert np.isfinite(model.train_on_batch(waveforms, targets))
    changed = [not np.array_equal(weight, old) for weight, old in zip(model.trainable_weights, before, strict=True)]
    assert sum(changed) > len(changed) / 4  # in the first step, gammas of zero block the branches of ResNet38


def test_talnet_is_trained_as_its_authors_train_it_unless_asked_for_the_way_of_panns():
    fields = ("steps", "batch_size", "schedule", "learning_rate", "mixup", "spec_augment", "checkpoints")
    configs = [find_recipe("talnet").parse(["--data-dir", "packs", *row]) for row in ([], ["--row", "talnet_panns"])]
    values = [tuple(getattr(config, field) for field in fields) for config in configs]
    assert values[0] == (30_000, 250, "plateau", 1e-3, 0.0, False, 1)
    cnn10 = find_recipe("cnn10").parse(["--data-dir", "packs"])
    assert values[1] == tuple(getattr(cnn10, field) for field in fields)


def test_the_row_of_the_public_code_has_its_options():
    config = find_recipe("gl_at").parse(["--data-dir", "packs", "--row", "gl_at_public_code"])
    assert (config.steps, config.batch_size, config.learning_rate, config.mixup) == (300_000, 16, 2e-4, 0.0)
    assert (config.share, config.frame_scores, config.freeze_global, config.amsgrad) == ("none", "local", True, True)


@pytest.mark.parametrize(("factor", "expected"), [("1", (0.2, 0.5)), ("0.5", (0.1, 0.25)), ("0", (0, 0))])
def test_dropout_factor_multiplies_every_rate(factor, expected, packs):
    recipe = find_recipe("cnn10")
    config = recipe.parse(make_arguments("cnn10", packs, "run", "--dropout-factor", factor))
    model = recipe.task.build_model(config, load_run_data(config, packs[32_000]))
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    blocks = {f"conv_block{block}_drop": expected[0] for block in (1, 2, 3, 4)}
    head = dict.fromkeys(("drop_features", "drop_frames", "drop_hidden"), expected[1])
    assert rates == {**blocks, **head}


def test_a_dropout_factor_above_one_is_rejected():
    with pytest.raises(ValueError, match=r"`dropout_factor` must be from 0 to 1; received: 1\.5"):
        find_recipe("mn").configure(dropout_factor=1.5)


def test_a_run_evaluated_again_from_its_files_has_the_same_metrics(packs, tmp_path):
    assert find_recipe("cnn10").main(make_arguments("cnn10", packs, tmp_path / "run")) == 0
    before = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))["ensemble"]
    assert evaluate_run(tmp_path / "run").map == pytest.approx(before["map"], abs=1e-9)


def test_packs_of_another_sample_rate_or_kind_are_named(packs, tmp_path, capsys):
    wrong_rate = make_arguments("talnet", {16_000: packs[32_000]}, tmp_path / "a")
    assert find_recipe("talnet").main(wrong_rate) == 1
    error = capsys.readouterr().err
    assert "bal_train.h5: must hold waveforms at 16000 Hz, as `kerastag pack audio --sample-rate 16000` writes" in error
    assert "received: 32000 Hz" in error
    write_synthetic_packs(tmp_path / "embeddings", num_train=50, num_eval=50, num_classes=3)
    arguments = make_arguments("cnn10", {32_000: tmp_path / "embeddings"}, tmp_path / "b")
    assert find_recipe("cnn10").main(arguments) == 1
    assert "must hold waveforms for this system (`kerastag pack audio`); it holds embeddings" in capsys.readouterr().err
    few = ["--data-dir", str(packs[32_000]), "--run-dir", str(tmp_path / "c"), "--steps", "2", "--batch-size", "4"]
    assert find_recipe("es_average").main(few) == 1
    assert "must hold embeddings for this system; it holds waveforms" in capsys.readouterr().err


@pytest.mark.parametrize(("field", "value"), [("width", "0"), ("crop_seconds", "-1"), ("gain_db", "-1")])
def test_a_value_out_of_range_is_named(packs, capsys, field, value):
    assert find_recipe("mn").main(["--data-dir", str(packs[32_000]), f"--{field}", value]) == 1
    assert f"`{field}` must be" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.* passed over")
def test_cnn10_at_full_width_trains_on_esc10(tmp_path):
    clips = read_class_folders(SHARED / "data" / "esc10")
    for split, rows in (("bal_train", range(0, 400, 20)), ("eval", range(5, 400, 40))):
        some = AudioList(tuple(clips.recordings[i] for i in rows), clips.labels, (), clips.source)
        pack_audio(some, tmp_path / f"{split}.h5", clip_seconds=5.0, progress=False)
    arguments = ["--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run"), "--steps", "3", "--batch-size", "4"]
    assert find_recipe("cnn10").main([*arguments, "--checkpoints", "1"]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] > 4_900_000
    assert np.isfinite(metrics["ensemble"]["map"])
