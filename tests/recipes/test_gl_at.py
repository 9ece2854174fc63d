"""The recipe of GL-AT: it trains, is measured stream by stream, says where it listened, resumes, and refuses."""

import json

import keras
import numpy as np
import pytest

from checks import SHARED, needs_shared
from kerastag.card import Card
from kerastag.data.mixing import SceneRules
from kerastag.data.synthetic import write_synthetic_packs
from kerastag.data.synthetic_events import write_synthetic_scenes
from kerastag.labels import LabelSet
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.loading import load_model
from kerastag.recipes import gl_at
from kerastag.recipes._data import load
from kerastag.recipes._gl_at_windows import localized
from kerastag.recipes.evaluate import evaluate

CLASSES = ("bursts", "chirps", "clicks", "hums", "sweeps")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rules = SceneRules(scene_seconds=2.0, max_event_seconds=0.8)
    write_synthetic_scenes(folder, sample_rate=32_000, counts={"bal_train": 20, "eval": 12}, rules=rules)
    return folder


def arguments(scenes, run_dir, *more):
    small = (
        "--width",
        "0.0625",
        "--steps",
        "2",
        "--batch_size",
        "4",
        "--checkpoints",
        "2",
        "--sub_clip_seconds",
        "0.8",
    )
    return ["--data_dir", str(scenes), "--run_dir", str(run_dir), *small, "--num_sub_clips", "2", *more]


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert gl_at.main(arguments(scenes, folder)) == 0
    return folder


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_figures_of_both_streams_and_of_their_windows(run, scenes, capsys):
    found = metrics(run)
    assert gl_at.main(arguments(scenes, run)) == 0  # finished before: the table again
    table = capsys.readouterr().out
    for name in ("global", "local", "ensemble"):
        assert len(found[name]["average_precision"]) == 5
    for name in ("global", "local"):
        assert f"| {name} stream alone | {found[name]['map']:.4f} |" in table
    assert len({found[name]["mauc"] for name in ("global", "local", "ensemble")}) > 1
    windows = found["localization"]["all"]
    assert 0 < windows["num_selected"] <= windows["num_pairs"]
    assert 0 < windows["center_chance"] < 1


def test_leaves_a_tagger_whose_card_fits(run):
    card = Card.read(run / "model.keras")
    assert card.labels.names == CLASSES
    assert (card.window_seconds, card.seconds_per_frame, card.sample_rate) == (2.0, 0.16, 32_000)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    outputs = model(np.zeros((1, 64_000), np.float32))
    assert outputs["framewise"].shape == (1, 12, 5)
    assert outputs["classes"].shape == (1, 2)


def test_measured_again_from_its_files_gives_the_same(run, capsys):
    kept = metrics(run)
    assert evaluate(run).map == pytest.approx(kept["ensemble"]["map"], abs=1e-9)
    assert f"| local stream alone | {kept['local']['map']:.4f} |" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(run, scenes, tmp_path, monkeypatch):
    from kerastag.training.fit import RunCallback

    stopped = arguments(scenes, tmp_path / "stopped", "--save_every", "1")
    save = RunCallback._save

    def dies(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunCallback, "_save", dies)
    assert gl_at.main(stopped) == 130
    monkeypatch.setattr(RunCallback, "_save", save)
    assert gl_at.main(stopped) == 0
    a, b = (keras.saving.load_model(f / "model.keras", compile=False) for f in (run, tmp_path / "stopped"))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert metrics(run)["localization"] == metrics(tmp_path / "stopped")["localization"]


@pytest.mark.slow
def test_from_given_weights_with_the_global_stream_frozen(scenes, tmp_path, capsys):
    given, other = (cnn10(num_classes, width=0.0625, input="waveform") for num_classes in (5, 3))
    given.save(tmp_path / "given.keras")
    other.save(tmp_path / "other.keras")
    flags = ("--freeze_global", "true", "--initial_weights")
    assert gl_at.main(arguments(scenes, tmp_path / "no", *flags, str(tmp_path / "other.keras"))) == 1
    said = capsys.readouterr().err
    assert "other.keras, but for fc_audioset: it has other classes" in said
    assert "`freeze_global` needs `initial_weights` of these 5 classes" in said
    assert gl_at.main(arguments(scenes, tmp_path / "run", *flags, str(tmp_path / "given.keras"))) == 0
    assert json.loads((tmp_path / "run/settings.json").read_text())["learning_rate"] == 2e-4
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    same = [
        np.array_equal(model.get_layer(stream).get_layer("conv_block1_conv1").kernel, kernel)
        for kernel in (given.get_layer("conv_block1_conv1").kernel,)
        for stream in ("global_stream", "local_stream")
    ]
    assert same == [True, False]


@pytest.mark.parametrize("begins", [pytest.param("with its own weights", marks=pytest.mark.slow), "with given weights"])
def test_the_global_stream_learns_what_the_backbone_alone_does(begins, scenes, tmp_path):
    """Dropout and augmentation included: what GL-AT is above the backbone alone is not another draw of them."""
    flags = ["--spec_augment", "true"]
    if begins == "with given weights":
        cnn10(5, width=0.0625, input="waveform").save(tmp_path / "given.keras")
        flags += ["--initial_weights", str(tmp_path / "given.keras")]
    learned = {}
    for streams in ("global", "both"):
        assert gl_at.main(arguments(scenes, tmp_path / streams, *flags, "--streams", streams)) == 0
        model = load_model(tmp_path / streams / "model.keras")
        learned[streams] = (model if streams == "global" else model.get_layer("global_stream")).get_weights()
    for alone, with_local in zip(learned["global"], learned["both"], strict=True):
        np.testing.assert_allclose(with_local, alone, rtol=1e-3, atol=1e-5)


def test_packs_without_a_table_of_events_give_no_localization(run, scenes, tmp_path):
    for name in ("bal_train.h5", "eval.h5"):
        (tmp_path / name).symlink_to(scenes / name)
    settings = gl_at.Settings(sub_clip_seconds=0.8, num_sub_clips=2, batch_size=4)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    assert not localized(settings, load(settings, tmp_path), model)
    assert localized(settings, load(settings, scenes), model)["localization"] == metrics(run)["localization"]


def test_packs_of_embeddings_are_one_line(tmp_path, capsys):
    write_synthetic_packs(tmp_path, num_train=9, num_eval=3, num_classes=3, num_features=6)
    assert gl_at.main(["--data_dir", str(tmp_path), "--run_dir", str(tmp_path / "run"), "--smoke"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "holds embeddings; this system learns from waveforms" in said[0]


def test_without_data_it_makes_scenes_and_compares(tmp_path, capsys, monkeypatch):
    from kerastag.recipes import _gl_at_synthetic

    monkeypatch.setattr(_gl_at_synthetic, "COUNTS", {"bal_train": 8, "eval": 6})
    small = ["--steps", "1", "--batch_size", "2", "--checkpoints", "1", "--width", "0.0625"]
    assert gl_at.main(["--run_dir", str(tmp_path / "run"), *small]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| cnn10")]
    assert rows == [f"| cnn10 {what}" for what in ("alone", "+ GL-AT, global", "+ GL-AT, local", "+ GL-AT, both")]
    table = lines[lines.index("windows of the classes that sound:") + 2 :]
    assert table[0].split()[:4] == ["pairs", "chosen", "center", "inside"]
    assert [line.split()[0] for line in table[1:4]] == ["all", "short", "close"]
    assert lines[-1].startswith("mAP 0.")
    alone, both = metrics(tmp_path / "run/beside_backbone_alone"), metrics(tmp_path / "run")
    assert "global" not in alone
    assert both["parameters"] == 2 * alone["parameters"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--sub_clip_seconds", "3"), "`sub_clip_seconds` must be at most the 2 s that are trained on, received 3.0"),
        (("--crop_seconds", "0.5"), "`sub_clip_seconds` must be at most the 0.5 s that are trained on, received 0.8"),
        (("--num_sub_clips", "0"), "`num_sub_clips` must be a whole number of at least 1. Received: 0"),
        (("--freeze_global", "true"), "`freeze_global` must come with `initial_weights`"),
        (("--backbone", "vggish"), "backbone"),
        (("--initial_weights", "nothing.keras"), "received 'nothing.keras'"),
    ],
)
def test_bad_settings_are_one_line(scenes, tmp_path, capsys, flags, message):
    assert gl_at.main(arguments(scenes, tmp_path / "run", *flags)) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


# What AudioSet calls the ten sounds of ESC-10, in its order.
HEARD = ("Dog", "Rain", "Ocean", "Baby cry, infant cry", "Clock", "Sneeze", "Helicopter", "Chainsaw",
         "Chicken, rooster", "Fire")  # fmt: skip


@pytest.mark.slow
@pytest.mark.real
@needs_shared
def test_published_weights_choose_windows_inside_events_before_any_training(tmp_path, monkeypatch):
    """mn04 has heard such sounds: with its own classifier of them, its windows lie where ESC-10's events are."""
    from kerastag.data.soundscapes import make_scenes
    from kerastag.data.splits import Split
    from kerastag.fetch import fetch
    from kerastag.tagger import model_file

    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    fetch("mn04_as", from_file=SHARED / "data/weights/mn04_as_mAP_432.pt")
    splits, counts = [Split("bal_train", ("1",)), Split("eval", ("5",))], {"bal_train": 1, "eval": 12}
    rules = SceneRules(max_event_seconds=2.0)
    make_scenes(SHARED / "data/esc10", tmp_path, splits=splits, counts=counts, rules=rules, progress=False)
    settings = gl_at.Settings(backbone="mn", width=0.4, initial_weights="mn04_as", num_sub_clips=10)
    data = load(settings, tmp_path)
    model = gl_at.build(settings, data)
    published = load_model(model_file("mn04_as")).get_layer("classifier").get_weights()
    heard = [LabelSet.audioset().index(name) for name in HEARD]
    model.get_layer("global_stream").get_layer("classifier").set_weights([w[..., heard] for w in published])
    found = localized(settings, data, model)["localization"]["all"]
    assert found["num_selected"] == found["num_pairs"] >= 20
    # Three standard deviations of windows that lie anywhere.
    assert found["center"] > found["center_chance"] + 3 * 0.5 / np.sqrt(found["num_selected"])
