"""`kerastag when`: the figures of `kerastag.metrics` for models of every kind, and one line for what does not fit."""

import json

import h5py
import numpy as np
import pytest

from kerastag.__main__ import main
from kerastag.card import Card, write_card
from kerastag.cli.score_events import _Model
from kerastag.data.mixing import SceneRules
from kerastag.data.pack import PackWriter
from kerastag.data.synthetic_events import SYNTHETIC_EVENTS, write_synthetic_scenes
from kerastag.events import EventRules
from kerastag.labels import LabelSet
from kerastag.metrics import PSDS_1, EventTable, event_f1, localization, peaks, psds, read_events, segment_f1

RATE, SECONDS, FRAME_SECONDS = 32_000, 2.0, 0.2
LABELS = LabelSet.from_names(SYNTHETIC_EVENTS)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rules = SceneRules(scene_seconds=SECONDS, max_event_seconds=1.0, max_events=2)
    write_synthetic_scenes(folder, sample_rate=RATE, counts={"eval": 12, "valid": 10}, rules=rules)
    return folder


@pytest.fixture(scope="module")
def truth(packs):
    return read_events(packs / "eval.tsv", [f"eval_{i:06d}.wav" for i in range(12)], LABELS)


@pytest.fixture(scope="module")
def models(packs):
    """Small networks over the envelope of a scene, untrained: one says when, the other chooses windows, too."""
    import keras

    from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect

    waveform = keras.Input((round(RATE * SECONDS),), name="waveform")
    envelope = keras.ops.mean(keras.ops.abs(keras.ops.reshape(waveform, (-1, 10, 64, 100))), axis=-1)
    framewise = keras.layers.Dense(5, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(0, 9, seed=1))(
        envelope - keras.ops.mean(envelope, axis=(1, 2), keepdims=True)
    )
    # The clip is less sure than its most probable frames, as those of a CNN may be.
    outputs = {"clipwise": 0.9 * keras.ops.max(framewise, axis=1), "framewise": framewise}
    _, start_seconds, classes = ClassWiseClipSelect(2, 0.9, RATE, return_windows=True, name="select")(
        [waveform, outputs["clipwise"], framewise]
    )
    windows = {"start_seconds": start_seconds, "classes": classes}
    thresholds = {"thresholds": (0.5, 0.45, 0.5, 0.5, 0.55), "thresholds_origin": "made up"}
    models = {"plain": keras.Model(waveform, outputs), "choosing": keras.Model(waveform, {**outputs, **windows})}
    for name, model in models.items():
        model.save(packs / f"{name}.keras")
        write_card(packs / f"{name}.keras", Card(LABELS, RATE, SECONDS, FRAME_SECONDS, **thresholds))
    return models


def when(capsys, *arguments):
    assert main(["when", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def heard(model, packs, *names):
    with h5py.File(packs / "eval.h5") as file:
        said = model.predict(file["waveform"][:].astype("float32") / 32_767, verbose=0)
    return [said[name] for name in names]


def test_a_model_is_measured_with_the_thresholds_of_its_card(models, packs, truth, tmp_path, capsys):
    out = when(capsys, packs / "plain.keras", "--pack", packs / "eval.h5", "--json", tmp_path / "when.json")
    found = json.loads((tmp_path / "when.json").read_text())
    framewise, clipwise = heard(models["plain"], packs, "framewise", "clipwise")
    sounding = np.minimum(framewise, clipwise[:, None])
    assert (sounding < framewise).any()
    assert found["psds_1"] == pytest.approx(psds(truth, sounding, FRAME_SECONDS, SECONDS, PSDS_1), abs=1e-6)
    events = EventTable.found(sounding, FRAME_SECONDS, EventRules((0.5, 0.45, 0.5, 0.5, 0.55)))
    assert found["event_f1"]["micro"] == pytest.approx(event_f1(truth, events).micro)
    assert found["segment_f1"]["by_class"] == pytest.approx(segment_f1(truth, events).by_class.tolist(), nan_ok=True)
    expected = localization(truth, *peaks(framewise, FRAME_SECONDS), 0.0, SECONDS)
    assert found["peaks"] == expected.as_dict()
    assert expected.table() in out
    assert found["classes"] == list(SYNTHETIC_EVENTS)
    assert f"eval.h5: 12 clips, {len(truth)} events; thresholds: the card's (made up)" in out
    assert "windows" not in out


def test_chosen_windows_are_measured_too(models, packs, truth, tmp_path, capsys):
    out = when(capsys, packs / "choosing.keras", "--pack", packs / "eval.h5", "--json", tmp_path / "when.json")
    start_seconds, classes = heard(models["choosing"], packs, "start_seconds", "classes")
    expected = localization(truth, start_seconds, classes, 0.9, SECONDS)
    assert json.loads((tmp_path / "when.json").read_text())["windows"] == expected.as_dict()
    assert "windows of 0.9 s that were chosen" in out
    assert expected.table() in out


def test_thresholds_are_tuned_on_another_pack(models, packs, tmp_path, capsys):
    arguments = [packs / "plain.keras", "--pack", packs / "eval.h5", "--by", "segment"]
    out = when(capsys, *arguments, "--tune", packs / "valid.h5", "--json", tmp_path / "when.json")
    assert f"thresholds: tuned on {packs}/valid.h5" in out
    thresholds = json.loads((tmp_path / "when.json").read_text())["rules"]["onset_thresholds"]
    assert len(set(thresholds)) == 5
    assert main(["when", *map(str, arguments), "--tune", str(packs / "eval.h5")]) == 1
    assert "`--tune` must be another pack than `--pack`" in capsys.readouterr().err


def test_predictions_are_measured_without_a_model(packs, truth, tmp_path, capsys):
    framewise = np.random.default_rng(0).random((12, 10, 5)).astype("float32")
    windows = {"start_seconds": np.zeros((12, 1)), "classes": np.zeros((12, 1), int), "sub_clip_seconds": 0.5}
    np.savez(tmp_path / "said.npz", framewise=framewise, seconds_per_frame=0.2, **windows)
    arguments = ["--pack", packs / "eval.h5", "--json", tmp_path / "when.json", "--threshold", "0.7"]
    out = when(capsys, tmp_path / "said.npz", *arguments, "--min_seconds", "0.4", "--smoothing_seconds", "0.6")
    found = json.loads((tmp_path / "when.json").read_text())
    rules = EventRules(0.7, min_seconds=0.4, smoothing_seconds=0.6)
    assert found["event_f1"]["micro"] == event_f1(truth, EventTable.found(framewise, 0.2, rules)).micro
    expected = psds(truth, framewise, 0.2, SECONDS, smoothing_seconds=0.6)
    assert found["psds_1"] == pytest.approx(expected)
    assert found["windows"] == localization(truth, windows["start_seconds"], windows["classes"], 0.5, SECONDS).as_dict()
    assert "thresholds: 0.7" in out


def test_the_attention_models_of_paper_1_are_measured(tmp_path, capsys):
    """Feature-level attention over embeddings: what it says of padding does not count."""
    from kerastag.models.embedding_models import decision_attention

    model = decision_attention(num_classes=2, num_features=4, units=8, depth=1)
    model.save(tmp_path / "attention.keras")
    x = np.random.default_rng(0).integers(0, 256, (6, 10, 4), np.uint8)
    x[0, 5:] = 0
    with PackWriter(tmp_path / "eval.h5", num_classes=2, features=4, attributes={"class_names": '["a", "b"]'}) as pack:
        pack.append(x, [5, *[10] * 5], np.ones((6, 2), bool), [f"clip{i}" for i in range(6)])
        pack.finish()
    rows = [f"clip{i}\t{i}\t{i + 2}\t{'ab'[i % 2]}" for i in range(6)]
    (tmp_path / "eval.tsv").write_text("\n".join(["filename\tonset\toffset\tevent_label", *rows]))
    when(capsys, tmp_path / "attention.keras", "--pack", tmp_path / "eval.h5", "--json", tmp_path / "when.json")
    found = json.loads((tmp_path / "when.json").read_text())
    framewise = model.predict((x.astype("float32") - 128) / 128, verbose=0)["framewise"]
    framewise[0, 5:] = 0
    truth = read_events(tmp_path / "eval.tsv", [f"clip{i}" for i in range(6)], LabelSet.from_names(["a", "b"]))
    assert found["peaks"] == localization(truth, *peaks(framewise, 1.0), 0.0, 10.0).as_dict()
    heard = _Model(str(tmp_path / "attention.keras"), None).hear(str(tmp_path / "eval.h5")).framewise
    np.testing.assert_allclose(heard, framewise, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gone.keras"}, "gone.keras"),
        ({"model": "gone.npz"}, "gone.npz: no such predictions"),
        ({"model": "broken.npz"}, "broken.npz: is no .npz file that can be read"),
        ({"model": "empty.npz"}, "empty.npz: must hold framewise and seconds_per_frame, has no seconds_per_frame"),
        ({"model": "other.npz"}, "other.npz: `framewise` must be (12, frames, 5) for"),
        ({"pack": "gone.h5"}, "gone.h5: no such pack"),
        ({"events": "gone.tsv"}, "gone.tsv: no such table of events"),
        ({"tune": "valid.h5"}, "`--tune` needs a model, received predictions"),
        ({"threshold": "2"}, "`onset_thresholds` must be in [0, 1], one or one a class, received 2.0"),
    ],
)
def test_an_error_is_one_line(change, message, packs, tmp_path, capsys):
    np.savez(tmp_path / "said.npz", framewise=np.zeros((12, 4, 5)), seconds_per_frame=0.5)
    np.savez(tmp_path / "empty.npz", framewise=np.zeros((12, 4, 5)))
    np.savez(tmp_path / "other.npz", framewise=np.zeros((12, 4, 3)), seconds_per_frame=0.5)
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    given = {"model": "said.npz", **change}
    arguments = ["when", str(tmp_path / given.pop("model")), "--pack", str(packs / given.pop("pack", "eval.h5"))]
    for name, value in given.items():
        arguments += [f"--{name}", str(packs / value) if "." in value else value]
    assert main(arguments) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert err[0].startswith("kerastag when: error: ")
    assert message in err[0]


def test_classes_of_another_pack_are_refused(models, packs, tmp_path, capsys):
    (tmp_path / "eval.h5").write_bytes((packs / "eval.h5").read_bytes())
    with h5py.File(tmp_path / "eval.h5", "r+") as file:
        file.attrs["class_names"] = json.dumps(list("abcde"))
    assert main(["when", str(packs / "plain.keras"), "--pack", str(tmp_path / "eval.h5")]) == 1
    assert "its classes are not those of" in capsys.readouterr().err
