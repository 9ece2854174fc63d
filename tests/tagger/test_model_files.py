"""Model files of every format: their predictions, and the files that are rejected."""

import json
import os
import zipfile

import numpy as np
import pytest
from tagger.small_models import save_small_model

from checks import run_python
from kerastag.card import Card, write_card
from kerastag.labels import LabelSet
from kerastag.tagger import Tagger

CLASSES = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark", "Rain", "Speech"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small.keras", CLASSES)


def test_a_keras_file_predicts_what_its_model_predicts(small):
    import keras

    waveform = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    outputs = keras.saving.load_model(small)(waveform[None])
    expected = {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}
    tagger = Tagger.load(small)
    np.testing.assert_allclose(tagger.predict(waveform, sample_rate=32_000), expected["clipwise"][0], atol=1e-6)
    np.testing.assert_allclose(tagger.embed(waveform, sample_rate=32_000), expected["embedding"][0], atol=1e-5)
    timeline = tagger.predict_timeline(waveform, sample_rate=32_000)
    np.testing.assert_allclose(timeline.framewise, expected["framewise"][0], atol=1e-6)
    limited = np.minimum(expected["framewise"][0], expected["clipwise"])
    np.testing.assert_allclose(timeline.probabilities, limited, atol=1e-6)


@pytest.mark.slow
def test_a_model_of_log_mel_predicts_the_same(small, tmp_path):
    import keras

    path = save_small_model(tmp_path / "log_mel.keras", CLASSES, input="log_mel")
    weights = keras.saving.load_model(small).get_weights()
    model = keras.saving.load_model(path)
    model.set_weights(weights)
    card = Card.read(path)
    model.save(path)
    write_card(path, card)
    waveform = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    expected = Tagger.load(small).predict(waveform, sample_rate=32_000)
    np.testing.assert_allclose(Tagger.load(path).predict(waveform, sample_rate=32_000), expected, atol=1e-4)


def test_recordings_of_any_length_have_one_frame_at_least(small):
    tagger = Tagger.load(small)
    for samples in (1, 320, 3_000):
        timeline = tagger.predict_timeline(np.zeros(samples, np.float32), sample_rate=32_000)
        assert timeline.probabilities.shape == timeline.framewise.shape == (1, 3)


def test_files_that_are_not_models_are_rejected(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a file or one of .*mn04_as, .*; received: 'mn03_as'"):
        Tagger.load("mn03_as")
    with pytest.raises(ValueError, match="must be a .keras or .tflite file; received: a folder"):
        Tagger.load(tmp_path)
    (tmp_path / "text.keras").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match=r"text.keras: has no card, or is damaged"):
        Tagger.load(tmp_path / "text.keras")
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("kerastag.json", json.dumps(Card.read(small).as_dict()))
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"damaged.keras: must be a Keras model; received: "):
        Tagger.load(damaged)


def test_a_model_of_embeddings_is_rejected(tmp_path):
    import keras

    inputs = keras.Input((10, 128), name="embeddings")
    path = tmp_path / "head.keras"
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).save(path)
    write_card(path, Card(CLASSES, 16_000, 10.0))
    with pytest.raises(ValueError, match="must have one input, waveform or log_mel; received: embeddings"):
        Tagger.load(path)


def test_log_mel_without_a_front_end_is_rejected(tmp_path):
    path = save_small_model(tmp_path / "bare.keras", CLASSES, input="log_mel", front_end={})
    with pytest.raises(ValueError, match="bare.keras: the card of a model that takes log-mel must have `front_end`"):
        Tagger.load(path)


@pytest.fixture(scope="module")
def lite(small, tmp_path_factory):
    """Convert the small model for one window, with builtin operations only, and append its card."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tensorflow")
    import keras

    from kerastag.export.tflite import convert_functions

    if keras.backend.backend() != "tensorflow":
        pytest.skip("TFLite is converted from the TensorFlow backend")
    model, card = keras.saving.load_model(small), Card.read(small)
    path = tmp_path_factory.mktemp("lite") / "small.tflite"
    path.write_bytes(convert_functions({"serve": (lambda x: model(x, training=False), "waveform", (64_000,))}))
    write_card(path, card)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tflite_file_predicts_what_keras_predicts(small, lite):
    waveform = np.random.default_rng(0).normal(0, 0.1, 150_000).astype(np.float32)
    keras_model, lite_model = Tagger.load(small), Tagger.load(lite)
    # The last window of the longer one starts at 2.88 s. The fixed length pads it with zeros, so that the frames after
    # 3.84 s differ.
    for samples, num_equal in ((64_000, 7), (150_000, 12)):
        expected = keras_model.predict_timeline(waveform[:samples], sample_rate=32_000)
        timeline = lite_model.predict_timeline(waveform[:samples], sample_rate=32_000)
        np.testing.assert_array_equal(timeline.seconds, expected.seconds)
        np.testing.assert_allclose(timeline.framewise[:num_equal], expected.framewise[:num_equal], atol=1e-5)
    np.testing.assert_allclose(
        lite_model.predict(waveform[:64_000], sample_rate=32_000),
        keras_model.predict(waveform[:64_000], sample_rate=32_000),
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tflite_file_needs_no_framework(lite):
    code = f"""
import sys, numpy as np
from kerastag.tagger import Tagger
tags = Tagger.load({os.fspath(lite)!r}).tag(np.zeros(80_000, np.float32), sample_rate=32_000)
print(len(tags), [m for m in ("keras", "tensorflow", "scipy", "sklearn") if m in sys.modules])
"""
    assert run_python(code).strip().endswith("3 []")
