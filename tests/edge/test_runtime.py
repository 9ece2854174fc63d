"""Models in `.tflite` files, and the errors for files that are not."""

import sys

import numpy as np
import pytest
from edge.models import WAVEFORM_SAMPLES, card, copy_with_card, weights

from kerastag.card import write_card
from kerastag.edge.runtime import AUDIO_INPUTS, INTERPRETER_MODULES, LiteRTModel
from kerastag.labels import LabelSet


def test_a_batch_is_processed_clip_by_clip(waveform_model):
    model = LiteRTModel(waveform_model, num_threads=1)
    batch = np.random.default_rng(0).normal(0, 0.1, (3, WAVEFORM_SAMPLES)).astype(np.float32)
    expected = 1 / (1 + np.exp(-100 * batch.astype(np.float64) @ weights(WAVEFORM_SAMPLES, 3)))
    np.testing.assert_allclose(model(batch)["clipwise"], expected, atol=1e-4)
    np.testing.assert_array_equal(model(batch[1:2])["clipwise"], model(batch)["clipwise"][1:2])


def test_inputs_outputs_and_classes_are_those_of_the_file(clip_model, waveform_model, head):
    model = LiteRTModel(clip_model)
    assert (model.input, model.shape, model.length) == ("log_mel", (1, 100, 64), 100)
    assert set(model.outputs) == {"clipwise", "framewise"}
    assert model.output_shapes == {"clipwise": (1, 3), "framewise": (1, 13, 3)}
    assert model.card.labels.names == ("Bark", "Rain", "Speech")
    assert LiteRTModel(waveform_model).outputs == ("clipwise",)
    assert LiteRTModel(head).input == "embedding"


def test_another_input_is_refused(clip_model, head):
    with pytest.raises(ValueError, match=r"`log_mel` must have shape \(1, 100, 64\); received: \(1, 99, 64\)"):
        LiteRTModel(clip_model)(np.zeros((1, 99, 64), np.float32))
    with pytest.raises(ValueError, match=r"head.tflite: must have one input, waveform or log_mel; received: embedding"):
        LiteRTModel(head, inputs=AUDIO_INPUTS)


def test_a_truncated_file_is_refused(clip_model, tmp_path):
    whole, path = clip_model.read_bytes(), tmp_path / "cut.tflite"
    for size in (8, 20, 1_000, len(whole) // 2, -2_000, -1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut.tflite: has no card, or is damaged"):
            LiteRTModel(path)


def test_files_that_are_not_models_and_cards_of_other_models_are_refused(clip_model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.tflite: no such model"):
        LiteRTModel(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, this is not a model", encoding="utf-8")
    with pytest.raises(ValueError, match=r"text.tflite: not a .tflite model; `kerastag export` writes one"):
        LiteRTModel(tmp_path / "text.tflite")
    # The first bytes and the card of a model, and zeros between them: a file without a subgraph.
    empty = bytearray(clip_model.read_bytes()[:8]) + bytes(400)
    (tmp_path / "empty.tflite").write_bytes(empty)
    write_card(tmp_path / "empty.tflite", card())
    with pytest.raises(ValueError, match=r"empty.tflite: damaged, or not a model that this interpreter can run"):
        LiteRTModel(tmp_path / "empty.tflite")
    path = copy_with_card(clip_model, tmp_path, labels=LabelSet.audioset())
    with pytest.raises(ValueError, match=r"clip.tflite: the card must name 3 classes, as many .*; received: 527"):
        LiteRTModel(path)


def test_an_error_while_a_model_runs_names_the_file(clip_model, monkeypatch):
    model = LiteRTModel(clip_model)

    def fail(**_):
        raise RuntimeError("gather index out of bounds\nNode number 5")

    monkeypatch.setattr(model._runner, "_runner", fail)
    with pytest.raises(ValueError, match=r"clip.tflite: damaged, or not a model .* \(gather index out of bounds\)$"):
        model(np.zeros((1, 100, 64), np.float32))


def test_a_changed_byte_of_the_model_never_reaches_the_interpreter(clip_model, tmp_path):
    content = bytearray(clip_model.read_bytes())
    content[1_000] ^= 1
    path = tmp_path / "changed.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed.tflite: damaged: `sha256` of its card must be that of the bytes"):
        LiteRTModel(path)


def test_a_model_of_another_project_says_what_can_be_read(clip_model, tmp_path):
    path = tmp_path / "yamnet.tflite"
    path.write_bytes(clip_model.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"yamnet.tflite: has no card.*`kerastag export`; .* `kerastag import`"):
        LiteRTModel(path)


def test_a_missing_interpreter_names_the_extra(clip_model, monkeypatch):
    for package in INTERPRETER_MODULES:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"clip.tflite: .* pip install 'kerastag\[edge\]'"):
        LiteRTModel(clip_model)
