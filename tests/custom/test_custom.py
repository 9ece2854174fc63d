"""A tagger of one's own sounds: learns, is measured on folds it has not seen, and what it saves says what it heard."""

import json
import shutil

import keras
import numpy as np
import pytest
import soundfile

from checks import SHARED
from kerastag import audio
from kerastag.card import Card
from kerastag.custom.report import confusion, look_alikes, suggest_thresholds
from kerastag.data.audio_lists import read_tree
from kerastag.data.mixing import MIX_RATE, Excerpt, Mixer, SceneRules
from kerastag.data.synthetic_events import SyntheticSounds
from kerastag.importers import _transfer
from kerastag.models.cnn10 import BACKBONE, cnn10
from kerastag.recipes import _custom_embed, custom

KINDS = ("hums", "bursts", "clicks")
FAST = ("--units", "16", "--steps", "200", "--batch_size", "18", "--learning_rate", "0.01")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """An untrained network, which hears well enough to tell noise from a tone."""
    keras.utils.set_random_seed(1)
    model = cnn10(4, width=0.125, input="waveform")
    mixer = Mixer(SyntheticSounds(), SceneRules(scene_seconds=2.0))
    heard = np.stack([mixer.render(mixer.scene(i), 32_000) for i in range(8)])
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(heard, training=True)  # without statistics of its own it would be as good as deaf
    for layer in norms:
        layer.momentum = 0.99
    path = tmp_path_factory.mktemp("backbone") / "cnn10.keras"
    return _transfer.save(
        model,
        path,
        labels=None,
        front_end=BACKBONE.front_end,
        window_seconds=10.0,
        seconds_per_frame=BACKBONE.seconds_per_output,
    )


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    made = SyntheticSounds()
    for k, kind in enumerate(KINDS):
        (folder / kind).mkdir()
        for i in range(9):
            waveform = made.waveform(Excerpt(made.labels.index(kind), kind, i, 0.0, 2 - 0.25 * (i % 2)))
            path = folder / kind / f"{i % 3 + 1}-{100 * k + i}-A.wav"
            soundfile.write(path, 0.3 * waveform / np.abs(waveform).max(), MIX_RATE)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def run(sounds, backbone, folder, *more):
    return custom.main(["--audio_dir", str(sounds), "--model", str(backbone), "--run_dir", str(folder), *FAST, *more])


def test_learns_measures_and_saves_a_tagger(sounds, backbone, tmp_path, capsys):
    assert run(sounds, backbone, tmp_path / "run", "--seeds", "[4]") == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert np.shape(found["folds"]) == (1, 3)
    assert np.mean(found["folds"]) > 0.7  # a guess is right once in three
    assert np.mean(found["logistic"]) > 0.7
    assert set(found["kinds"]) <= {"frames", "seconds"}
    assert "| attention head, backbone frozen, mean of 1 |" in said
    assert said.splitlines()[-1].startswith("mAP ")
    card = Card.read(tmp_path / "run/model.keras")
    assert card.labels.names == ("bursts", "clicks", "hums", "background")
    assert list(card.thresholds) == found["thresholds"]
    assert card.thresholds_origin == "best F1 on held-out clips"
    rows = (tmp_path / "run/classes.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["class", "bursts", "clicks", "hums"]
    counts = [row.split(",")[1:] for row in (tmp_path / "run/confusion.csv").read_text().splitlines()[1:]]
    assert np.array(counts, int).sum() == 27
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    path = next((sounds / "clicks").glob("*.wav"))
    outputs = model(audio.load(path, 32_000)[None])
    assert outputs["clipwise"].shape == (1, 4)
    assert outputs["framewise"].shape[0] == 1
    assert int(np.argmax(outputs["clipwise"][0])) == 1
    silence = np.asarray(model(np.zeros((1, 64_000), "float32"))["clipwise"][0])
    assert int(silence.argmax()) == 3


@pytest.mark.slow
def test_fine_tuning_changes_the_backbone_but_not_its_batch_norms(sounds, backbone, tmp_path):
    fine = ("--fine_tune", "true", "--fine_tune_steps", "2", "--fine_tune_batch_size", "4", "--steps", "5")
    assert run(sounds, backbone, tmp_path / "run", "--segments", "frames", *fine) == 0
    tuned = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    before = keras.saving.load_model(backbone, compile=False)
    layers = {layer.name: layer for layer in tuned._flatten_layers()}
    changed = [
        not np.array_equal(weight, layers[layer.name].get_weights()[i])
        for layer in before.layers
        if layer.name in layers and not isinstance(layer, keras.layers.BatchNormalization)
        for i, weight in enumerate(layer.get_weights())
    ]
    assert any(changed)
    for layer in before.layers:
        if layer.name in layers and isinstance(layer, keras.layers.BatchNormalization):
            for a, b in zip(layer.get_weights(), layers[layer.name].get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["frames", "seconds"])
def test_bags_are_what_the_model_itself_computes(sounds, backbone, kind, tmp_path):
    made = _custom_embed.load_backbone(str(backbone))
    clips = read_tree(sounds)
    embedded = _custom_embed.embed(made, clips, [], 30.0, tmp_path)
    again = _custom_embed.embed(made, clips, [], 30.0, tmp_path)
    model = keras.saving.load_model(backbone, compile=False)
    for row in (0, 8):
        waveform = audio.load(clips.recordings[row].path, 32_000)
        if kind == "frames":
            # The classifier on a bag's frames is what the model says of each frame.
            classified = model.get_layer("fc_audioset")(model.get_layer("fc1")(embedded.bags[kind][row]))
            framewise = np.asarray(model(waveform[None])["framewise"][0])
            np.testing.assert_allclose(keras.ops.sigmoid(classified), framewise, atol=1e-5)
        else:
            count = (len(waveform) + 16_000) // 32_000
            assert len(embedded.bags[kind][row]) == count
            np.testing.assert_allclose(
                embedded.bags[kind][row][0], model(waveform[None, :32_000])["embedding"][0], atol=1e-4
            )
        np.testing.assert_array_equal(embedded.bags[kind][row], again.bags[kind][row])
    assert not embedded.padded(kind)[0, len(embedded.bags[kind][0]) :].any()


@pytest.mark.slow
def test_a_tagger_of_seconds_comes_with_its_two_parts(sounds, backbone, tmp_path, capsys):
    """A backbone that was trained too: the parts are those of this run, not the backbone that it began with."""
    fine = ("--fine_tune", "true", "--fine_tune_steps", "2", "--fine_tune_batch_size", "4", "--steps", "5")
    assert run(sounds, backbone, tmp_path / "run", "--segments", "seconds", "--folds", "0", *fine) == 0
    names = ("model", "embedder", "head")
    whole, embedder, head = (keras.saving.load_model(tmp_path / f"run/{name}.keras") for name in names)
    said, hears, tags = (Card.read(tmp_path / f"run/{name}.keras") for name in names)
    waveform = audio.load(next((sounds / "hums").glob("*.wav")), 32_000)[:64_000]
    bag = np.stack([embedder(second[None])["embedding"][0] for second in waveform.reshape(2, 32_000)])
    assert np.abs(bag - keras.saving.load_model(backbone)(waveform[None, :32_000])["embedding"]).max() > 1e-3
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(head(bag[None])[name], whole(waveform[None])[name], rtol=0, atol=1e-5)
    assert (tags.labels, tags.thresholds, tags.seconds_per_frame) == (said.labels, said.thresholds, 1.0)
    assert (hears.labels, hears.window_seconds, hears.front_end) == (None, 1.0, said.front_end)
    assert tags.versions["embedder"] == hears.versions["embedder"]
    parts = f"--model {tmp_path / 'run/embedder.keras'} --head {tmp_path / 'run/head.keras'}"
    assert parts in capsys.readouterr().out


@pytest.mark.slow
def test_a_bad_recording_is_left_out_and_named(sounds, backbone, tmp_path, capsys):
    folder = shutil.copytree(sounds, tmp_path / "sounds")
    (folder / "hums/1-999-A.wav").write_bytes(b"not audio")
    assert run(folder, backbone, tmp_path / "run", "--segments", "frames", "--steps", "5") == 0
    assert "left out: " in (said := capsys.readouterr()).err
    assert "1-999-A.wav" in said.err
    assert "27 clips, 3 classes" in said.out
    assert "--segments seconds would make the two parts" in said.out
    assert not (tmp_path / "run/head.keras").exists()


def test_folds_of_names_columns_patterns_and_none(sounds, tmp_path):
    clips = read_tree(sounds)
    settings = {"audio_dir": str(sounds)}
    official = custom.folds_of(clips, custom.Settings(**settings))
    assert [int(r.path.name[0]) - 1 for r in clips.recordings] == official.tolist()
    by_pattern = custom.folds_of(clips, custom.Settings(**settings, fold_pattern=r"(\d)-A"))
    assert len(set(by_pattern)) > 3
    assert not custom.folds_of(clips, custom.Settings(**settings, folds=0)).any()
    with pytest.raises(ValueError, match=r"`fold_pattern` '\(x\)' must have a group that matches every file name"):
        custom.folds_of(clips, custom.Settings(**settings, fold_pattern="(x)"))


def test_dealt_folds_share_out_every_class_and_keep_sources_together(tmp_path):
    for kind in "ab":
        for source in range(10):
            for part in range(2):
                path = tmp_path / kind / f"src{source}_{part}.wav"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"")
    clips = read_tree(tmp_path)
    folds = custom.folds_of(clips, custom.Settings(audio_dir=str(tmp_path)))
    for k in range(2):
        assert np.bincount(folds[clips.targets[:, k]], minlength=5).tolist() == [4] * 5
    for recording, fold in zip(clips.recordings, folds, strict=True):
        twin = recording.name.replace("_0.wav", "_1.wav")
        assert fold == folds[[r.name for r in clips.recordings].index(twin)]


def test_thresholds_confusion_and_look_alikes():
    targets = np.eye(3, dtype=bool)[[0, 0, 1, 1, 2, 2]]
    scores = np.array([[0.9, 0.2, 0], [0.8, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.6, 0], [0, 0.1, 0.4], [0, 0, 0.3]])
    assert suggest_thresholds(targets, scores) == pytest.approx((0.75, 0.25, 0.15), abs=0.011)
    counts = confusion(targets, scores)
    assert counts.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert look_alikes(counts, ["a", "b", "c"]) == ["b heard as a: 1 of 2"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--folds", "2"), "`folds` must be 0 or at least 3, received 2"),
        (("--seeds", "[]"), "`seeds` must be at least one number"),
        (("--learning_rate", "0"), "`learning_rate` must be above 0"),
        (("--background", "/no/such"), "`background` must be made_up, none or a folder"),
        (("--labels", "/no/such.csv"), "no such list of recordings"),
    ],
)
def test_faulty_settings_are_one_line(sounds, backbone, tmp_path, capsys, flags, message):
    assert run(sounds, backbone, tmp_path / "run", *flags) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_model_that_is_none(sounds, tmp_path, capsys):
    assert run(sounds, tmp_path / "none.keras", tmp_path / "a") == 1
    assert "`model` must be a file or one of esc10, mn04_as" in capsys.readouterr().err
    (tmp_path / "bad.keras").write_bytes(b"no zip")
    assert run(sounds, tmp_path / "bad.keras", tmp_path / "b") == 1
    assert "bad.keras: has no card, or is damaged" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real
def test_mn04_tells_sounds_of_esc10_apart(tmp_path):
    from kerastag.importers.efficientat import import_efficientat

    root = SHARED / "data" / "esc10"
    weights = import_efficientat(SHARED / "data/weights/mn04_as_mAP_432.pt", tmp_path / "mn04.keras")
    lines = ["path,labels,fold"]
    for kind in ("001 - Dog bark", "002 - Rain", "009 - Rooster"):
        for fold in "123":
            paths = sorted((root / kind).glob(f"{fold}-*"))[:3]
            lines += [f"{path.relative_to(root)},{kind[6:]},{fold}" for path in paths]
    (tmp_path / "some.csv").write_text("\n".join(lines) + "\n")
    more = ("--labels", str(tmp_path / "some.csv"), "--segments", "frames")
    assert run(root, weights, tmp_path / "run", *more) == 0
    assert np.mean(json.loads((tmp_path / "run/metrics.json").read_text())["folds"]) > 0.8


@pytest.mark.slow
@pytest.mark.real
def test_the_parts_stream_what_the_tagger_says(tmp_path, capsys, monkeypatch):
    """From recordings to results on a device: mn04 and a head of three classes, exported and streamed."""
    pytest.importorskip("ai_edge_litert")
    from kerastag.__main__ import main
    from kerastag.edge import StreamingTagger
    from kerastag.export import parity
    from kerastag.export.embedder import embedder
    from kerastag.export.source import read_source
    from kerastag.importers.efficientat import import_efficientat

    monkeypatch.setattr(parity, "measure_use", lambda path, threads: parity.Use(1.0, 2.0))
    root = SHARED / "data" / "esc10"
    weights = import_efficientat(SHARED / "data/weights/mn04_as_mAP_432.pt", tmp_path / "mn04.keras")
    paths = [sorted((root / kind).glob("*.ogg"))[0] for kind in ("001 - Dog bark", "002 - Rain", "009 - Rooster")]
    rows = [f"{path.relative_to(root)},{path.parent.name[6:]}" for path in paths]
    (tmp_path / "some.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    flags = ("--labels", str(tmp_path / "some.csv"), "--segments", "seconds", "--folds", "0", "--background", "none")
    folder = tmp_path / "run"
    assert run(root, weights, folder, *flags) == 0
    files = {name: tmp_path / f"{name}.tflite" for name in ("embedder", "head")}
    for name, output in files.items():
        assert main(["export", str(folder / f"{name}.keras"), "--target", "float32", "--output", str(output)]) == 0
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    for path in paths:
        waveform = audio.load(path, 32_000)
        expected = {name: np.asarray(value)[0] for name, value in model(waveform[None]).items()}
        tagger = StreamingTagger(files["embedder"], files["head"])
        results = [*tagger.feed(waveform, 32_000), *tagger.flush()]
        framewise = np.concatenate([result.framewise for result in results])
        np.testing.assert_allclose(framewise, expected["framewise"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(results[-1].probabilities, expected["clipwise"], rtol=0, atol=1e-4)
        assert tagger.labels.names[int(expected["clipwise"].argmax())] == path.parent.name[6:]
    capsys.readouterr()
    command = ["stream", "--model", str(files["embedder"]), "--head", str(files["head"]), "--source", str(paths[2])]
    assert main([*command, "--output", "json:-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tops = [line["tags"][0]["name"] for line in lines if line["type"] == "result"]
    assert len(tops) == 5
    assert tops[-1] == "Rooster"
    # The backbone was frozen: cut out of the public weights, the embedder fits this head as well.
    same = embedder(read_source(weights), 1.0).card.versions["embedder"]
    assert same == Card.read(files["head"]).versions["embedder"]
