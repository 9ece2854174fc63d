"""Tests of the recipe of GL-AT: training, metrics of each stream and of the sub-clips, resuming, and errors."""

import json

import keras
import numpy as np
import pytest

from checks import SHARED, needs_shared
from kerastag.card import Card
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import make_soundscapes, write_synthetic_soundscapes
from kerastag.data.splits import Split
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.fetch import fetch
from kerastag.labels import LabelSet
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.loading import load_model
from kerastag.recipes import _synthetic, gl_at
from kerastag.recipes._evaluation import evaluate_run
from kerastag.training.callbacks import TrainingCallback
from kerastag.training.run_data import load_run_data

RECIPE = gl_at.RECIPE
CLASSES = ("bursts", "chirps", "clicks", "hums", "sweeps")


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soundscapes")
    config = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=0.8)
    write_synthetic_soundscapes(folder, sample_rate=32_000, counts={"bal_train": 20, "eval": 12}, config=config)
    return folder


def make_arguments(data_dir, run_dir, *more):
    small = ("--width", "0.0625", "--steps", "2", "--batch-size", "4", "--checkpoints", "2")
    sub_clips = ("--sub-clip-seconds", "0.8", "--num-sub-clips", "2")
    return ["--data-dir", str(data_dir), "--run-dir", str(run_dir), *small, *sub_clips, *more]


@pytest.fixture(scope="module")
def run(soundscapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert gl_at.main(make_arguments(soundscapes, folder)) == 0
    return folder


def read_metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_both_streams_and_their_sub_clips_are_evaluated(run, soundscapes, capsys):
    metrics = read_metrics(run)
    assert gl_at.main(make_arguments(soundscapes, run)) == 0  # already finished: the table again
    table = capsys.readouterr().out
    for name in ("global", "local", "ensemble"):
        assert len(metrics[name]["average_precision"]) == 5
    for name in ("global", "local"):
        assert f"| {name} stream alone | {metrics[name]['map']:.4f} |" in table
    assert len({metrics[name]["mauc"] for name in ("global", "local", "ensemble")}) > 1
    scores = metrics["localization"]["all"]
    assert 0 < scores["num_selected"] <= scores["num_pairs"]
    assert 0 < scores["center_chance"] < 1


def test_the_saved_tagger_has_a_card(run):
    card = Card.read(run / "model.keras")
    assert card.labels.names == CLASSES
    assert (card.window_seconds, card.seconds_per_frame, card.sample_rate) == (2.0, 0.16, 32_000)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    outputs = model(np.zeros((1, 64_000), np.float32))
    assert outputs["framewise"].shape == (1, 12, 5)
    assert outputs["classes"].shape == (1, 2)


def test_a_run_evaluated_again_from_its_files_has_the_same_metrics(run, capsys):
    metrics = read_metrics(run)
    assert evaluate_run(run).map == pytest.approx(metrics["ensemble"]["map"], abs=1e-9)
    assert f"| local stream alone | {metrics['local']['map']:.4f} |" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(run, soundscapes, tmp_path, monkeypatch):
    arguments = make_arguments(soundscapes, tmp_path / "stopped", "--save-every", "1")
    save = TrainingCallback._save

    def save_and_interrupt(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingCallback, "_save", save_and_interrupt)
    assert gl_at.main(arguments) == 130
    monkeypatch.setattr(TrainingCallback, "_save", save)
    assert gl_at.main(arguments) == 0
    a, b = (keras.saving.load_model(f / "model.keras", compile=False) for f in (run, tmp_path / "stopped"))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert read_metrics(run)["localization"] == read_metrics(tmp_path / "stopped")["localization"]


@pytest.mark.slow
def test_training_starts_from_initial_weights_with_the_global_stream_frozen(soundscapes, tmp_path, capsys):
    initial, other = (cnn10(num_classes, width=0.0625, input="waveform") for num_classes in (5, 3))
    initial.save(tmp_path / "initial.keras")
    other.save(tmp_path / "other.keras")
    flags = ("--freeze-global", "true", "--share", "none", "--initial-weights")
    assert gl_at.main(make_arguments(soundscapes, tmp_path / "no", *flags, str(tmp_path / "other.keras"))) == 1
    errors = capsys.readouterr().err
    assert "other.keras, except fc_audioset, which have other classes" in errors
    assert "`initial_weights` must have the classes of the clips where `freeze_global` is True" in errors
    assert gl_at.main(make_arguments(soundscapes, tmp_path / "run", *flags, str(tmp_path / "initial.keras"))) == 0
    assert json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["learning_rate"] == 2e-4
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    kernel = initial.get_layer("conv_block1_conv1").kernel
    unchanged = [
        np.array_equal(model.get_layer(stream).get_layer("conv_block1_conv1").kernel, kernel)
        for stream in ("global_stream", "local_stream")
    ]
    assert unchanged == [True, False]


def test_the_global_stream_learns_what_the_backbone_alone_learns(soundscapes, tmp_path):
    """Dropout and augmentation draw the same numbers, so that GL-AT is compared with the same backbone."""
    cnn10(5, width=0.0625, input="waveform").save(tmp_path / "initial.keras")
    flags = ["--share", "none", "--spec-augment", "true", "--initial-weights", str(tmp_path / "initial.keras")]
    weights = {}
    for streams in ("global", "both"):
        assert gl_at.main(make_arguments(soundscapes, tmp_path / streams, *flags, "--streams", streams)) == 0
        model = load_model(tmp_path / streams / "model.keras")
        weights[streams] = (model if streams == "global" else model.get_layer("global_stream")).get_weights()
    for alone, with_local in zip(weights["global"], weights["both"], strict=True):
        np.testing.assert_allclose(with_local, alone, rtol=1e-3, atol=1e-5)


def test_packs_without_an_event_table_have_no_localization(run, soundscapes, tmp_path):
    for name in ("bal_train.h5", "eval.h5"):
        (tmp_path / name).symlink_to(soundscapes / name)
    config = RECIPE.configure(sub_clip_seconds=0.8, num_sub_clips=2, batch_size=4)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    assert not RECIPE.task.extra_metrics(config, load_run_data(config, tmp_path), model)
    metrics = RECIPE.task.extra_metrics(config, load_run_data(config, soundscapes), model)
    assert metrics["localization"] == read_metrics(run)["localization"]


def test_packs_of_embeddings_are_one_line(tmp_path, capsys):
    write_synthetic_packs(tmp_path, num_train=9, num_eval=3, num_classes=3, num_features=6)
    assert gl_at.main(["--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run"), "--smoke"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "must hold waveforms for this system (`kerastag pack audio`); it holds embeddings" in lines[0]


def test_without_data_it_is_compared_with_its_backbone_on_synthetic_soundscapes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_synthetic, "NUM_SOUNDSCAPES", {"bal_train": 8, "eval": 6})
    small = ["--steps", "1", "--batch-size", "2", "--checkpoints", "1", "--width", "0.0625"]
    assert gl_at.main(["--run-dir", str(tmp_path / "run"), *small]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| cnn10")]
    assert rows == [f"| cnn10 {streams}" for streams in ("alone", "+ GL-AT, global", "+ GL-AT, local", "+ GL-AT, both")]
    table = lines[lines.index("sub-clips of the classes that are present:") + 2 :]
    assert [line.split()[0] for line in table[1:4]] == ["all", "short", "close"]
    assert lines[-1].startswith("mAP 0.")
    alone, both = read_metrics(tmp_path / "run/baseline"), read_metrics(tmp_path / "run")
    assert "global" not in alone
    assert alone["parameters"] < both["parameters"] < 2 * alone["parameters"]  # one classifier for both streams


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--sub-clip-seconds", "3"),
            "`sub_clip_seconds` must be at most the length of the training clips, 2 s; received: 3.0",
        ),
        (
            ("--crop-seconds", "0.5"),
            "`sub_clip_seconds` must be at most the length of the training clips, 0.5 s; received: 0.8",
        ),
        (("--num-sub-clips", "0"), "`num_sub_clips` must be an integer"),
        (("--freeze-global", "true"), "`freeze_global` must be False without `initial_weights`; received: True"),
        (
            ("--freeze-global", "true", "--initial-weights", "mn04"),
            "`share` must be none where `freeze_global` is True; received: 'classifier'",
        ),
        (("--frame-scores", "local"), "`share` must be none where `frame_scores` is local; received: 'classifier'"),
        (("--backbone", "vggish"), "backbone"),
        (("--initial-weights", "nothing.keras"), "received: 'nothing.keras'"),
    ],
)
def test_an_invalid_configuration_is_one_line(soundscapes, tmp_path, capsys, flags, message):
    assert gl_at.main(make_arguments(soundscapes, tmp_path / "run", *flags)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


# The AudioSet classes of the ten sounds of ESC-10, in its order.
AUDIOSET_NAMES = ("Dog", "Rain", "Ocean", "Baby cry, infant cry", "Clock", "Sneeze", "Helicopter", "Chainsaw",
                  "Chicken, rooster", "Fire")  # fmt: skip


@pytest.mark.slow
@pytest.mark.real
@needs_shared
@pytest.mark.filterwarnings("ignore:.* passed over")
def test_published_weights_select_sub_clips_inside_events_before_any_training(tmp_path, monkeypatch):
    """mn04 was trained on such sounds: with its own classifier, it selects sub-clips where the events of ESC-10 are."""
    from kerastag.tagger import fetch_model

    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    fetch("mn04_as", from_file=SHARED / "data/weights/mn04_as_mAP_432.pt")
    splits, counts = [Split("bal_train", ("1",)), Split("eval", ("5",))], {"bal_train": 1, "eval": 12}
    soundscape_config = SoundscapeConfig(max_event_seconds=2.0)
    make_soundscapes(
        SHARED / "data/esc10", tmp_path, splits=splits, counts=counts, config=soundscape_config, progress=False
    )
    config = RECIPE.configure(backbone="mn", width=0.4, initial_weights="mn04_as", num_sub_clips=10)
    data = load_run_data(config, tmp_path)
    model = RECIPE.task.build_model(config, data)
    published = load_model(fetch_model("mn04_as")).get_layer("classifier").get_weights()
    classes = [LabelSet.audioset().index(name) for name in AUDIOSET_NAMES]
    model.get_layer("classifier").set_weights([w[..., classes] for w in published])
    scores = RECIPE.task.extra_metrics(config, data, model)["localization"]["all"]
    assert scores["num_selected"] == scores["num_pairs"] >= 20
    # Three standard deviations above sub-clips at random positions.
    assert scores["center"] > scores["center_chance"] + 3 * 0.5 / np.sqrt(scores["num_selected"])
