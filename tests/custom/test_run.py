"""Runs: a tagger is trained, evaluated on folds that were held out, and saved with all results."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import soundfile
from custom.small_runs import FINE_TUNE, run_custom

from checks import SHARED
from kerastag import audio
from kerastag._keras import flatten_layers
from kerastag.card import Card
from kerastag.custom import evaluate_custom_run

pytestmark = pytest.mark.usefixtures("cache_folder")


def test_a_run_trains_evaluates_and_saves_a_tagger(recordings, finished_run):
    folder, output = finished_run
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert np.shape(metrics["folds"]) == (1, 3)
    assert np.mean(metrics["folds"]) > 0.7  # a random guess has 1/3
    assert np.mean(metrics["logistic"]) > 0.7
    assert set(metrics["kinds"]) <= {"frames", "seconds"}
    assert "| head, backbone frozen, mean of 1 |" in output
    assert output.splitlines()[-1].startswith("mAP ")
    card = Card.read(folder / "model.keras")
    assert card.labels.names == ("bursts", "clicks", "hums", "background")
    assert list(card.thresholds) == metrics["thresholds"]
    assert card.thresholds_origin == "best F1 on held-out clips"
    with (folder / "classes.csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["class", "bursts", "clicks", "hums"]
    with (folder / "confusion.csv").open(newline="", encoding="utf-8") as file:
        assert sum(int(count) for row in list(csv.reader(file))[1:] for count in row[1:]) == 27
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["format"], config["system"], config["seeds"]) == (1, "custom", [4])


def test_one_class_and_broken_background_give_a_detector(recordings, backbone, tmp_path, capsys):
    shutil.copytree(recordings / "clicks", tmp_path / "sounds/Click, loud")
    shutil.copytree(recordings / "hums", tmp_path / "background")
    (tmp_path / "background/1-200-A.wav").write_bytes(b"not audio")
    few = ("--segments", "frames", "--folds", "0", "--background", str(tmp_path / "background"))
    assert run_custom(tmp_path / "sounds", backbone, tmp_path / "run", *few) == 0
    captured = capsys.readouterr()
    assert "1-200-A.wav: " in captured.err
    assert "skipped: 1 of 19 recordings" in captured.err
    assert "18 clips, 2 classes" in captured.out
    assert Card.read(tmp_path / "run/model.keras").labels.names == ("Click, loud", "background")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert metrics["metrics"]["map"] > 0.9
    with (tmp_path / "run/confusion.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["", "Click, loud", "background"]


@pytest.mark.slow
def test_the_whole_of_long_recordings_is_learned(backbone, recordings, tmp_path, capsys):
    """Each recording has its sound after more silence than fits in a window."""
    for path in recordings.rglob("*.wav"):
        waveform = audio.load(path, 32_000)
        (tmp_path / "long" / path.parent.name).mkdir(parents=True, exist_ok=True)
        padded = np.concatenate([np.zeros(3 * 32_000, np.float32), waveform])
        soundfile.write(tmp_path / "long" / path.parent.name / path.name, padded, 32_000)
    flags = ("--max-seconds", "2", "--segments", "seconds", "--fine-tune", "true", "--fine-tune-steps", "2")
    assert run_custom(tmp_path / "long", backbone, tmp_path / "run", *flags, "--fine-tune-batch-size", "4") == 0
    captured = capsys.readouterr()
    assert "longer than 2 s: 27 recordings, each is one bag" in captured.err
    assert "27 recordings longer than 2 s, each of them whole, as one bag" in captured.out
    assert np.mean(json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))["folds"]) > 0.6


def test_a_class_without_a_recording_that_can_be_read_is_named_before_training(recordings, backbone, tmp_path, capsys):
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    for path in (folder / "hums").iterdir():
        path.write_bytes(b"not audio")
    assert run_custom(folder, backbone, tmp_path / "run", "--segments", "frames") == 1
    assert "recordings: no recording of hums can be read: " in capsys.readouterr().err.splitlines()[-1]


def test_the_saved_model_tags_waveforms(recordings, finished_run):
    model = keras.saving.load_model(finished_run[0] / "model.keras", compile=False)
    path = next((recordings / "clicks").glob("*.wav"))
    outputs = model(audio.load(path, 32_000)[None])
    assert outputs["clipwise"].shape == (1, 4)
    assert outputs["framewise"].shape[0] == 1
    assert int(np.argmax(outputs["clipwise"][0])) == 1
    silence = np.asarray(model(np.zeros((1, 64_000), "float32"))["clipwise"][0])
    # The embeddings of an untrained backbone are too alike for more.
    assert silence[3] > 2 * float(outputs["clipwise"][0][3])


def test_the_results_of_a_finished_run_are_shown_again(recordings, backbone, finished_run, capsys):
    folder, output = finished_run
    modified = (folder / "model.keras").stat().st_mtime_ns
    assert run_custom(recordings, backbone, folder, "--seeds", "[4]") == 0
    captured = capsys.readouterr()
    assert captured.out == output
    assert "already finished" in captured.err
    assert (folder / "model.keras").stat().st_mtime_ns == modified


def test_a_folder_with_another_configuration_is_refused(recordings, backbone, finished_run, capsys):
    assert run_custom(recordings, backbone, finished_run[0], "--seeds", "[4]", "--units", "17") == 1
    error = capsys.readouterr().err
    assert "`units` was 16; received: 17" in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_an_interrupted_run_can_be_repeated(recordings, backbone, tmp_path):
    folder, flags = tmp_path / "run", ("--segments", "frames", "--folds", "0", "--steps", "5")
    assert run_custom(recordings, backbone, folder, *flags) == 0
    expected, card = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        Card.read(folder / "model.keras"),
    )
    (folder / "metrics.json").unlink()
    (folder / "model.keras").write_bytes(b"incomplete")
    assert run_custom(recordings, backbone, folder, *flags) == 0
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"] == expected["metrics"]
    assert Card.read(folder / "model.keras") == card


@pytest.mark.slow
def test_fine_tuning_changes_the_backbone_but_not_its_batch_norms(recordings, backbone, tmp_path):
    flags = ("--segments", "frames", "--folds", "0", *FINE_TUNE)
    assert run_custom(recordings, backbone, tmp_path / "run", *flags) == 0
    tuned = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    before = keras.saving.load_model(backbone, compile=False)
    layers = {layer.name: layer for layer in flatten_layers(tuned)}
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


@pytest.mark.slow
def test_a_tagger_of_seconds_comes_with_its_two_parts(recordings, backbone, tmp_path, capsys):
    """The parts are those of the fine-tuned tagger, not of the backbone that it started from."""
    folder = tmp_path / "run"
    assert run_custom(recordings, backbone, folder, "--segments", "seconds", "--folds", "0", *FINE_TUNE) == 0
    names = ("model", "embedder", "head")
    tagger, embedder, head = (keras.saving.load_model(folder / f"{name}.keras") for name in names)
    card, embedder_card, head_card = (Card.read(folder / f"{name}.keras") for name in names)
    waveform = audio.load(next((recordings / "hums").glob("*.wav")), 32_000)[:64_000]
    bag = np.stack([embedder(second[None])["embedding"][0] for second in waveform.reshape(2, 32_000)])
    assert np.abs(bag - keras.saving.load_model(backbone)(waveform[None, :32_000])["embedding"]).max() > 1e-3
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(head(bag[None])[name], tagger(waveform[None])[name], rtol=0, atol=1e-5)
    assert (head_card.labels, head_card.thresholds, head_card.seconds_per_frame) == (card.labels, card.thresholds, 1.0)
    assert (embedder_card.labels, embedder_card.window_seconds, head_card.window_seconds) == (None, 1.0, 3.0)
    assert embedder_card.front_end == card.front_end
    assert head_card.versions["embedder"] == embedder_card.versions["embedder"]
    assert 0 <= evaluate_custom_run(folder).map <= 1  # a .keras file with all kinds of layers of a tagger is accepted
    output = capsys.readouterr().out
    assert f"--model {folder / 'embedder.keras'} --head {folder / 'head.keras'}" in output
    assert "no cross-validation" in output


@pytest.mark.slow
def test_a_tagger_of_output_frames_comes_with_its_two_parts(recordings, backbone, tmp_path):
    folder = tmp_path / "run"
    assert run_custom(recordings, backbone, folder, "--folds", "0", *FINE_TUNE) == 0
    names = ("model", "embedder", "head")
    tagger, embedder, head = (keras.saving.load_model(folder / f"{name}.keras") for name in names)
    card, embedder_card, head_card = (Card.read(folder / f"{name}.keras") for name in names)
    waveform = audio.load(next((recordings / "hums").glob("*.wav")), 32_000)[None]
    for name, value in head(embedder(waveform)["embedding"]).items():
        np.testing.assert_allclose(value, tagger(waveform)[name], rtol=0, atol=1e-5)
    # The median recording has 2 s, of which 12 whole frames of 0.16 s are the window.
    assert card.window_seconds == embedder_card.window_seconds == head_card.window_seconds == pytest.approx(1.92)
    assert (card.seconds_per_frame, embedder_card.labels) == (0.16, None)
    assert head_card.versions["embedder"] == embedder_card.versions["embedder"]


@pytest.mark.slow
def test_a_bad_recording_is_skipped_and_named(recordings, backbone, tmp_path, capsys):
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    (folder / "hums/1-999-A.wav").write_bytes(b"not audio")
    assert run_custom(folder, backbone, tmp_path / "run", "--segments", "frames", "--folds", "0", "--steps", "5") == 0
    captured = capsys.readouterr()
    assert "skipped: " in captured.err
    assert "1-999-A.wav" in captured.err
    assert "27 clips, 3 classes" in captured.out
    assert f"to stream: --model {tmp_path / 'run/embedder.keras'}" in captured.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--folds", "2"), "`folds` must be 0 or at least 3; received: 2"),
        (("--seeds", "[]"), "`seeds` must be at least one number"),
        (("--learning_rate", "0"), "`learning_rate` must be above 0"),
        (("--background", "/no/such"), "`background` must be bundled, synthetic, none or a folder"),
        (("--labels", "/no/such.csv"), "/no/such.csv: no such file"),
    ],
)
def test_a_faulty_configuration_is_one_line_and_leaves_no_folder(
    recordings, backbone, tmp_path, capsys, flags, message
):
    assert run_custom(recordings, backbone, tmp_path / "run", *flags) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_loaded_is_named(recordings, tmp_path, capsys):
    assert run_custom(recordings, tmp_path / "none.keras", tmp_path / "a") == 1
    assert "`model` must be a file or one of esc10, mn04_as" in capsys.readouterr().err
    (tmp_path / "bad.keras").write_bytes(b"no zip")
    assert run_custom(recordings, tmp_path / "bad.keras", tmp_path / "b") == 1
    assert "bad.keras: has no card, or is damaged" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real
def test_mn04_distinguishes_sounds_of_esc10(tmp_path):
    from kerastag.importers.efficientat import import_efficientat

    root = SHARED / "data" / "esc10"
    weights = import_efficientat(SHARED / "data/weights/mn04_as_mAP_432.pt", tmp_path / "mn04.keras")
    lines = ["path,labels,fold"]
    for kind in ("001 - Dog bark", "002 - Rain", "009 - Rooster"):
        for fold in "123":
            paths = sorted((root / kind).glob(f"{fold}-*"))[:3]
            lines += [f"{path.relative_to(root)},{kind[6:]},{fold}" for path in paths]
    (tmp_path / "some.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    more = ("--labels", str(tmp_path / "some.csv"), "--segments", "frames")
    assert run_custom(root, weights, tmp_path / "run", *more) == 0
    assert np.mean(json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))["folds"]) > 0.8
    model = keras.saving.load_model(tmp_path / "run/model.keras", compile=False)
    silence = np.asarray(model(np.zeros((1, 5 * 32_000), "float32"))["clipwise"])[0]
    assert Card.read(tmp_path / "run/model.keras").labels.names[int(silence.argmax())] == "background"


@pytest.mark.slow
@pytest.mark.real
def test_streaming_the_parts_predicts_what_the_tagger_predicts(tmp_path, capsys, monkeypatch):
    """From recordings to results on a device: mn04 and a head of three classes, exported and streamed."""
    pytest.importorskip("ai_edge_litert")
    from kerastag.__main__ import main
    from kerastag.edge import StreamingTagger
    from kerastag.export import parity
    from kerastag.export.device import Usage
    from kerastag.export.source import extract_embedder, read_source
    from kerastag.importers.efficientat import import_efficientat

    monkeypatch.setattr(parity, "measure_usage", lambda path, threads: Usage(1.0, 2.0))
    root = SHARED / "data" / "esc10"
    weights = import_efficientat(SHARED / "data/weights/mn04_as_mAP_432.pt", tmp_path / "mn04.keras")
    paths = [sorted((root / kind).glob("*.ogg"))[0] for kind in ("001 - Dog bark", "002 - Rain", "009 - Rooster")]
    rows = [f"{path.relative_to(root)},{path.parent.name[6:]}" for path in paths]
    (tmp_path / "some.csv").write_text("\n".join(["path,labels", *rows]) + "\n", encoding="utf-8")
    flags = ("--labels", str(tmp_path / "some.csv"), "--segments", "seconds", "--folds", "0", "--background", "none")
    folder = tmp_path / "run"
    assert run_custom(root, weights, folder, *flags) == 0
    files = {name: tmp_path / f"{name}.tflite" for name in ("embedder", "head")}
    for name, output in files.items():
        assert main(["export", str(folder / f"{name}.keras"), "--target", "float32", "--output", str(output)]) == 0
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    for path in paths:
        waveform = audio.load(path, 32_000)
        expected = {name: np.asarray(value)[0] for name, value in model(waveform[None]).items()}
        # The head predicts the last three whole seconds of a stream.
        last = np.asarray(model(waveform[None, 2 * 32_000 : 5 * 32_000])["clipwise"])[0]
        tagger = StreamingTagger(files["embedder"], files["head"])
        results = [*tagger.feed(waveform, 32_000), *tagger.flush()]
        framewise = np.concatenate([result.framewise for result in results])
        np.testing.assert_allclose(framewise, expected["framewise"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(results[-1].probabilities, last, rtol=0, atol=1e-4)
        assert tagger.labels.names[int(expected["clipwise"].argmax())] == path.parent.name[6:]
    capsys.readouterr()
    command = ["stream", "--model", str(files["embedder"]), "--head", str(files["head"]), "--source", str(paths[2])]
    assert main([*command, "--output", "json:-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tops = [line["tags"][0]["name"] for line in lines if line["type"] == "result"]
    assert len(tops) == 5
    assert "Rooster" in tops
    assert tops[-1] == tagger.labels.names[int(last.argmax())]
    # The backbone was frozen: cut out of the public weights, the embedder fits this head as well.
    same = extract_embedder(read_source(weights), 1.0).card.versions["embedder"]
    assert same == Card.read(files["head"]).versions["embedder"]
