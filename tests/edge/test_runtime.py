"""The LiteRT runtime: what a file gives, and every file that gives nothing, in one line."""

import sys

import numpy as np
import pytest
from edge.models import WAVEFORM_SAMPLES, card, weights

from kerastag.card import write_card
from kerastag.edge.runtime import HEARD, PACKAGES, LiteRTModel
from kerastag.labels import LabelSet


def test_it_gives_what_the_file_computes_clip_by_clip(waveform_model):
    model = LiteRTModel(waveform_model, num_threads=1)
    batch = np.random.default_rng(0).normal(0, 0.1, (3, WAVEFORM_SAMPLES)).astype(np.float32)
    expected = 1 / (1 + np.exp(-100 * batch.astype(np.float64) @ weights(WAVEFORM_SAMPLES, 3)))
    np.testing.assert_allclose(model(batch)["clipwise"], expected, atol=1e-4)
    np.testing.assert_array_equal(model(batch[1:2])["clipwise"], model(batch)["clipwise"][1:2])


def test_it_says_what_it_takes_and_gives(clip_model, waveform_model, head):
    model = LiteRTModel(clip_model)
    assert (model.input, model.shape, model.length) == ("log_mel", (1, 100, 64), 100)
    assert set(model.outputs) == {"clipwise", "framewise"}
    assert model.output_shapes == {"clipwise": (1, 3), "framewise": (1, 13, 3)}
    assert model.card.labels.names == ("Bark", "Rain", "Speech")
    assert LiteRTModel(waveform_model).outputs == ("clipwise",)
    assert LiteRTModel(head).input == "embedding"


def test_another_shape_is_refused(clip_model):
    with pytest.raises(ValueError, match=r"`log_mel` must have shape \(1, 100, 64\), received \(1, 99, 64\)"):
        LiteRTModel(clip_model)(np.zeros((1, 99, 64), np.float32))


def test_another_input_is_refused(head):
    with pytest.raises(ValueError, match=r"head.tflite: must have one input, waveform or log_mel, received embedding"):
        LiteRTModel(head, inputs=HEARD)


@pytest.mark.parametrize("kept", [8, 20, 1_000, 0.5, -2_000, -1])
def test_a_truncated_file_is_refused(clip_model, tmp_path, kept):
    whole, path = clip_model.read_bytes(), tmp_path / "cut.tflite"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"cut.tflite: has no card, or is damaged"):
        LiteRTModel(path)


def test_what_is_no_model_is_refused(clip_model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.tflite: there is no such model"):
        LiteRTModel(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, this is no model")
    with pytest.raises(ValueError, match=r"text.tflite: is no .tflite model; `python -m kerastag export` makes one"):
        LiteRTModel(tmp_path / "text.tflite")
    # Zeros where the model was, its first bytes and the card still there: no subgraph in it.
    empty = bytearray(clip_model.read_bytes()[:8]) + bytes(400)
    (tmp_path / "empty.tflite").write_bytes(empty)
    write_card(tmp_path / "empty.tflite", card())
    with pytest.raises(ValueError, match=r"empty.tflite: is damaged, or no model that \w+ runs"):
        LiteRTModel(tmp_path / "empty.tflite")


def test_another_models_labels_are_refused(clip_model, tmp_path):
    path = tmp_path / "clip.tflite"
    path.write_bytes(clip_model.read_bytes())
    write_card(path, card(labels=LabelSet.audioset()))
    with pytest.raises(ValueError, match=r"clip.tflite: has 3 classes, but its card names 527"):
        LiteRTModel(path)


def test_a_missing_runtime_names_its_extra(clip_model, monkeypatch):
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"clip.tflite: .* pip install 'kerastag\[edge\]'"):
        LiteRTModel(clip_model)
