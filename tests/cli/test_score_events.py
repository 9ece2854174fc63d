"""`kerastag score-events`: the metrics of models of every kind, and its errors."""

import json

import h5py
import numpy as np
import pytest

from checks import compute_outputs
from kerastag.__main__ import main
from kerastag.card import Card, write_card
from kerastag.data.feature_pack_writer import FeaturePackWriter
from kerastag.data.packs import open_pack
from kerastag.data.sound_sources import SYNTHETIC_EVENTS
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import write_synthetic_soundscapes
from kerastag.events import EventRules
from kerastag.framewise import predict_framewise
from kerastag.labels import LabelSet
from kerastag.metrics import (
    PSDS_1,
    EventTable,
    compute_event_f1,
    compute_localization,
    compute_psds,
    compute_segment_f1,
    find_peaks,
    read_events,
)

RATE, SECONDS, FRAME_SECONDS = 32_000, 2.0, 0.2
LABELS = LabelSet.from_names(SYNTHETIC_EVENTS)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soundscapes")
    config = SoundscapeConfig(soundscape_seconds=SECONDS, max_event_seconds=1.0, max_events=2)
    write_synthetic_soundscapes(folder, sample_rate=RATE, counts={"eval": 12, "valid": 10}, config=config)
    return folder


@pytest.fixture(scope="module")
def ground_truth(packs):
    return read_events(packs / "eval.tsv", [f"eval_{i:06d}.wav" for i in range(12)], LABELS)


@pytest.fixture(scope="module")
def models(packs):
    """Build two small untrained networks over the envelope of a soundscape, of which one selects sub-clips."""
    import keras

    from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect

    waveform = keras.Input((round(RATE * SECONDS),), name="waveform")
    envelope = keras.ops.mean(keras.ops.abs(keras.ops.reshape(waveform, (-1, 10, 64, 100))), axis=-1)
    framewise = keras.layers.Dense(5, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(0, 9, seed=1))(
        envelope - keras.ops.mean(envelope, axis=(1, 2), keepdims=True)
    )
    # The clip is less probable than its most probable frame, as may happen in a CNN.
    outputs = {"clipwise": 0.9 * keras.ops.max(framewise, axis=1), "framewise": framewise}
    _, start_seconds, classes = ClassWiseClipSelect(2, 0.9, RATE, return_windows=True, name="select")(
        [waveform, outputs["clipwise"], framewise]
    )
    sub_clips = {"start_seconds": start_seconds, "classes": classes}
    thresholds = {"thresholds": (0.5, 0.45, 0.5, 0.5, 0.55), "thresholds_origin": "synthetic"}
    models = {"plain": keras.Model(waveform, outputs), "selecting": keras.Model(waveform, {**outputs, **sub_clips})}
    for name, model in models.items():
        model.save(packs / f"{name}.keras")
        write_card(packs / f"{name}.keras", Card(LABELS, RATE, SECONDS, FRAME_SECONDS, **thresholds))
    return models


def score(capsys, *arguments):
    assert main(["score-events", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def predict(model, packs, *names):
    with h5py.File(packs / "eval.h5") as file:
        outputs = compute_outputs(model, file["waveform"][:].astype("float32") / 32_767)
    return [outputs[name] for name in names]


def test_a_model_is_scored_with_the_thresholds_of_its_card(models, packs, ground_truth, tmp_path, capsys):
    out = score(capsys, packs / "plain.keras", "--pack", packs / "eval.h5", "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    framewise, clipwise = predict(models["plain"], packs, "framewise", "clipwise")
    limited = np.minimum(framewise, clipwise[:, None])
    assert (limited < framewise).any()
    expected_psds = compute_psds(ground_truth, limited, FRAME_SECONDS, SECONDS, PSDS_1)
    assert scores["psds_1"] == pytest.approx(expected_psds, abs=1e-6)
    events = EventTable.from_framewise(limited, FRAME_SECONDS, EventRules((0.5, 0.45, 0.5, 0.5, 0.55)))
    assert scores["event_f1"]["micro"] == pytest.approx(compute_event_f1(ground_truth, events).micro)
    assert scores["segment_f1"]["by_class"] == pytest.approx(
        compute_segment_f1(ground_truth, events).by_class.tolist(), nan_ok=True
    )
    expected = compute_localization(ground_truth, *find_peaks(framewise, FRAME_SECONDS), 0.0, SECONDS)
    assert scores["peaks"] == expected.as_dict()
    assert expected.format_table() in out
    assert scores["classes"] == list(SYNTHETIC_EVENTS)
    assert f"eval.h5: 12 clips, {len(ground_truth)} events; thresholds: the card's (synthetic)" in out
    assert f"events of {packs}/eval.tsv: DCASE strong labels\n" in out
    assert "sub-clips" not in out


def test_selected_sub_clips_are_scored_too(models, packs, ground_truth, tmp_path, capsys):
    out = score(capsys, packs / "selecting.keras", "--pack", packs / "eval.h5", "--json", tmp_path / "scores.json")
    start_seconds, classes = predict(models["selecting"], packs, "start_seconds", "classes")
    expected = compute_localization(ground_truth, start_seconds, classes, 0.9, SECONDS)
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["sub_clips"] == expected.as_dict()
    assert "sub-clips of 0.9 s selected" in out
    assert expected.format_table() in out


def test_thresholds_are_tuned_on_another_pack(models, packs, tmp_path, capsys):
    arguments = [packs / "plain.keras", "--pack", packs / "eval.h5", "--by", "segment"]
    out = score(capsys, *arguments, "--tune", packs / "valid.h5", "--json", tmp_path / "scores.json")
    assert f"thresholds: tuned on {packs}/valid.h5" in out
    thresholds = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["rules"]["onset_thresholds"]
    assert len(set(thresholds)) == 5
    assert main(["score-events", *map(str, arguments), "--tune", str(packs / "eval.h5")]) == 1
    assert "`tune` must be another pack than the one to score" in capsys.readouterr().err


def test_predictions_are_scored_without_a_model(packs, ground_truth, tmp_path, capsys):
    framewise = np.random.default_rng(0).random((12, 10, 5)).astype("float32")
    sub_clips = {"start_seconds": np.zeros((12, 1)), "classes": np.zeros((12, 1), int), "sub_clip_seconds": 0.5}
    np.savez(tmp_path / "predictions.npz", framewise=framewise, seconds_per_frame=0.2, **sub_clips)
    arguments = ["--pack", packs / "eval.h5", "--json", tmp_path / "scores.json", "--threshold", "0.7"]
    out = score(capsys, tmp_path / "predictions.npz", *arguments, "--min-seconds", "0.4", "--smoothing-seconds", "0.6")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    rules = EventRules(0.7, min_seconds=0.4, smoothing_seconds=0.6)
    events = EventTable.from_framewise(framewise, 0.2, rules)
    assert scores["event_f1"]["micro"] == compute_event_f1(ground_truth, events).micro
    expected = compute_psds(ground_truth, framewise, 0.2, SECONDS, smoothing_seconds=0.6)
    assert scores["psds_1"] == pytest.approx(expected)
    expected = compute_localization(ground_truth, sub_clips["start_seconds"], sub_clips["classes"], 0.5, SECONDS)
    assert scores["sub_clips"] == expected.as_dict()
    assert "thresholds: 0.7" in out


def test_models_of_embeddings_are_scored(tmp_path, capsys):
    """The probabilities of padding are ignored, and a model without a card needs the length of a segment."""
    from kerastag.models.embedding_models import decision_attention

    model = decision_attention(num_classes=2, num_features=4, units=8, depth=1)
    model.save(tmp_path / "attention.keras")
    x = np.random.default_rng(0).integers(0, 256, (6, 10, 4), np.uint8)
    x[0, 5:] = 0
    with FeaturePackWriter(
        tmp_path / "eval.h5", num_classes=2, num_features=4, attributes={"class_names": '["a", "b"]'}
    ) as pack:
        pack.append(x, [5, *[10] * 5], np.ones((6, 2), bool), [f"clip{i}" for i in range(6)])
        pack.finish()
    rows = [f"clip{i}\t{i}\t{i + 2}\t{'ab'[i % 2]}" for i in range(6)]
    (tmp_path / "eval.tsv").write_text("\n".join(["filename\tonset\toffset\tevent_label", *rows]), encoding="utf-8")
    arguments = [tmp_path / "attention.keras", "--pack", tmp_path / "eval.h5"]
    assert main(["score-events", *map(str, arguments)]) == 1
    assert "`segment_seconds` must be the length in seconds, which" in capsys.readouterr().err
    score(capsys, *arguments, "--segment-seconds", 1, "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    framewise = compute_outputs(model, (x.astype("float32") - 128) / 128)["framewise"].copy()
    framewise[0, 5:] = 0
    ground_truth = read_events(tmp_path / "eval.tsv", [f"clip{i}" for i in range(6)], LabelSet.from_names(["a", "b"]))
    assert scores["peaks"] == compute_localization(ground_truth, *find_peaks(framewise, 1.0), 0.0, 10.0).as_dict()
    with open_pack(tmp_path / "eval.h5") as pack:
        predictions = predict_framewise(tmp_path / "attention.keras", pack, segment_seconds=1.0)
    np.testing.assert_allclose(predictions.framewise, framewise, atol=1e-6)


def test_the_card_of_a_model_of_embeddings_has_the_length_of_a_segment(tmp_path):
    """A patch of VGGish is 0.96 s long; AudioSet's embeddings have one per second."""
    from kerastag.models.embedding_models import decision_attention

    path = tmp_path / "attention.keras"
    decision_attention(num_classes=2, num_features=4, units=8, depth=1).save(path)
    write_card(path, Card(LabelSet.from_names(["a", "b"]), 16_000, 9.6, seconds_per_frame=0.96))
    with FeaturePackWriter(tmp_path / "eval.h5", num_classes=2, num_segments=10, num_features=4) as writer:
        writer.append(np.ones((1, 10, 4), np.uint8), [10], np.ones((1, 2), bool), ["clip"])
        writer.finish()
    with open_pack(tmp_path / "eval.h5") as pack:
        assert predict_framewise(path, pack).seconds_per_frame == 0.96
        with pytest.raises(ValueError, match=r"`segment_seconds` must be 0.96 as in .*; received: 1$"):
            predict_framewise(path, pack, segment_seconds=1.0)


def test_predictions_with_sub_clips_need_their_length(tmp_path):
    arrays = {"start_seconds": np.zeros((1, 1)), "classes": np.zeros((1, 1), int)}
    np.savez(tmp_path / "predictions.npz", framewise=np.zeros((1, 4, 5)), seconds_per_frame=0.5, **arrays)
    with pytest.raises(ValueError, match="`sub_clip_seconds` must be the length in seconds"):
        predict_framewise(tmp_path / "predictions.npz", None)
    sub_clips = predict_framewise(tmp_path / "predictions.npz", None, sub_clip_seconds=0.5).sub_clips
    assert sub_clips.seconds == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gone.keras"}, "gone.keras"),
        ({"model": "gone.npz"}, "gone.npz: no such file"),
        ({"model": "broken.npz"}, "broken.npz: not a complete .npz file"),
        ({"model": "empty.npz"}, "empty.npz: must have framewise and seconds_per_frame; received: framewise"),
        ({"model": "other.npz"}, "other.npz: `framewise` must be (12, frames, 5) for"),
        ({"pack": "gone.h5"}, "gone.h5: no such file"),
        ({"events": "gone.tsv"}, "gone.tsv: no such file"),
        ({"tune": "valid.h5"}, "`tune` must be None for predictions"),
        ({"threshold": "2"}, "`onset_thresholds` must be in [0, 1], one number or one per class; received: 2.0"),
    ],
)
def test_an_error_is_one_line(change, message, packs, tmp_path, capsys):
    np.savez(tmp_path / "predictions.npz", framewise=np.zeros((12, 4, 5)), seconds_per_frame=0.5)
    np.savez(tmp_path / "empty.npz", framewise=np.zeros((12, 4, 5)))
    np.savez(tmp_path / "other.npz", framewise=np.zeros((12, 4, 3)), seconds_per_frame=0.5)
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    options = {"model": "predictions.npz", **change}
    model, pack = tmp_path / options.pop("model"), packs / options.pop("pack", "eval.h5")
    arguments = ["score-events", str(model), "--pack", str(pack)]
    for name, value in options.items():
        arguments += [f"--{name}", str(packs / value) if "." in value else value]
    assert main(arguments) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert err[0].startswith("kerastag score-events: error: ")
    assert message in err[0]


def test_classes_of_another_pack_are_refused(models, packs, tmp_path, capsys):
    (tmp_path / "eval.h5").write_bytes((packs / "eval.h5").read_bytes())
    with h5py.File(tmp_path / "eval.h5", "r+") as file:
        file.attrs["class_names"] = json.dumps(list("abcde"))
    assert main(["score-events", str(packs / "plain.keras"), "--pack", str(tmp_path / "eval.h5")]) == 1
    assert "its classes must be those of" in capsys.readouterr().err
