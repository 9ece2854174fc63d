"""Small real models with their cards, each converted once per session with TensorFlow's converter."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge.models import (
    CONVERTED,
    FEATURES,
    FRAMES_PER_OUTPUT,
    SEGMENT_FRAMES,
    WAVEFORM_SAMPLES,
    WINDOW_FRAMES,
    card,
    weights,
)

from kerastag.card import Card, write_card
from kerastag.edge.runtime import INTERPRETER_MODULES
from kerastag.labels import LabelSet

Convert = Callable[..., Path]
LABEL = LabelSet.from_names(["Loud"])


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Return a function that converts a function of one tensor to a `.tflite` file."""
    if not any(importlib.util.find_spec(module.partition(".")[0]) for module in INTERPRETER_MODULES):
        pytest.skip("needs a LiteRT interpreter (extra `edge` or `edge-legacy`)")
    pytest.importorskip("tensorflow")
    from kerastag.export.tflite import convert_functions

    def convert_function(name: str, function: Callable, input: str, shape: tuple[int, ...], card: Card) -> Path:
        if name not in CONVERTED:
            CONVERTED[name] = tmp_path_factory.mktemp(name) / f"{name}.tflite"
            CONVERTED[name].write_bytes(convert_functions({"serving_default": (function, input, shape[1:])}))
            write_card(CONVERTED[name], card)
        return CONVERTED[name]

    return convert_function


@pytest.fixture(scope="session")
def clip_model(convert: Convert) -> Path:
    """Build a model from one second of log-mel to `clipwise`, which depends on every value, and frames of 0.08 s."""
    import tensorflow as tf

    clip, frame = weights(WINDOW_FRAMES, 64, 3), weights(FRAMES_PER_OUTPUT, 64, 3, seed=1)

    def tag(log_mel: Any) -> dict[str, Any]:
        padded = tf.pad(log_mel, [[0, 0], [0, -WINDOW_FRAMES % FRAMES_PER_OUTPUT], [0, 0]])
        outputs = tf.reshape(padded, (-1, FRAMES_PER_OUTPUT * 64)) @ frame.reshape(-1, 3)
        return {
            "clipwise": tf.sigmoid(tf.reshape(log_mel, (1, -1)) @ clip.reshape(-1, 3)),
            "framewise": tf.sigmoid(outputs)[None],
        }

    model_card = card(window_seconds=1.015, seconds_per_frame=0.08)
    return convert("clip", tag, "log_mel", (1, WINDOW_FRAMES, 64), model_card)


@pytest.fixture(scope="session")
def waveform_model(convert: Convert) -> Path:
    """Build a model from one second of samples to `clipwise` alone."""
    import tensorflow as tf

    ramp = weights(WAVEFORM_SAMPLES, 3)

    def tag(waveform: Any) -> dict[str, Any]:
        return {"output_0": tf.sigmoid(100 * waveform @ ramp)}  # Keras's name of a single output

    return convert("waveform", tag, "waveform", (1, WAVEFORM_SAMPLES), card(front_end={}))


@pytest.fixture(scope="session")
def embedder(convert: Convert) -> Path:
    """Build an embedder from 0.24 s of log-mel to five features, without classes in its card."""
    import tensorflow as tf

    matrix = weights(SEGMENT_FRAMES * 64, FEATURES, seed=2)

    def embed(log_mel: Any) -> dict[str, Any]:
        return {"embedding": tf.tanh(tf.reshape(log_mel, (1, -1)) @ matrix)}

    return convert("embedder", embed, "log_mel", (1, SEGMENT_FRAMES, 64), card(labels=None, window_seconds=0.24))


@pytest.fixture(scope="session")
def head_network() -> Any:
    """Build feature-level attention over five features in Keras."""
    keras = pytest.importorskip("keras")
    from kerastag.models import MODELS

    keras.utils.set_random_seed(3)
    network = MODELS["feature_attention"].build(num_classes=3, num_features=FEATURES, units=8, depth=1)
    for weight in network.weights:
        if weight.name == "kernel":
            weight.assign(1.5 * weight.numpy())  # so that every segment changes the probabilities
    return network


@pytest.fixture(scope="session")
def head(convert: Convert, head_network: Any) -> Path:
    """Convert that network for ten segments."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("TFLite is converted from the TensorFlow backend")
    model_card = card(front_end={}, window_seconds=2.4)
    network = functools.partial(head_network, training=False)
    return convert("head", network, "embedding", (1, 10, FEATURES), model_card)


@pytest.fixture(scope="session")
def loudness_model(convert: Convert) -> Path:
    """Build a model of one class whose probability is above one half for audio louder than about -40 dB."""
    import tensorflow as tf

    def tag(log_mel: Any) -> dict[str, Any]:
        padded = tf.pad(log_mel, [[0, 0], [0, -WINDOW_FRAMES % FRAMES_PER_OUTPUT], [0, 0]], constant_values=-5.0)
        level = tf.reduce_mean(tf.reshape(padded, (1, -1, FRAMES_PER_OUTPUT * 64)), axis=2, keepdims=True)
        framewise = tf.sigmoid(5 * (level + 2))
        return {"clipwise": tf.reduce_max(framewise, axis=1), "framewise": framewise}

    return convert("loudness", tag, "log_mel", (1, WINDOW_FRAMES, 64), card(labels=LABEL, seconds_per_frame=0.08))


@pytest.fixture(scope="session")
def loudness_parts(convert: Convert) -> tuple[Path, Path]:
    """Build the same as an embedder of 0.24 s, whose only feature is 0 in silence, and a head for ten segments."""
    import tensorflow as tf

    def embed(log_mel: Any) -> dict[str, Any]:
        level = tf.reduce_mean(tf.reshape(log_mel, (1, -1, FRAMES_PER_OUTPUT * 64)), axis=2)
        return {"embedding": tf.nn.relu(5 + tf.reduce_max(level, axis=1, keepdims=True))}

    def tag(embedding: Any) -> dict[str, Any]:
        framewise = tf.sigmoid(5 * (embedding - 3))
        return {"clipwise": tf.reduce_max(framewise, axis=1), "framewise": framewise}

    embedder = card(labels=None, window_seconds=0.24)
    head = card(labels=LABEL, front_end={}, window_seconds=2.4, seconds_per_frame=0.24)
    return (
        convert("loudness_embedder", embed, "log_mel", (1, SEGMENT_FRAMES, 64), embedder),
        convert("loudness_head", tag, "embedding", (1, 10, 1), head),
    )


@pytest.fixture(scope="session")
def loud_model(convert: Convert) -> Path:
    """Build a model of low tones (`Bark`), high tones (`Rain`) and loud audio (`Speech`), with frames of 0.1 s."""
    import tensorflow as tf

    bands = np.zeros((64, 3), np.float32)
    bands[:20, 0], bands[44:, 1], bands[:, 2] = 1 / 20, 1 / 20, 1 / 64

    def tag(log_mel: Any) -> dict[str, Any]:
        levels = tf.reduce_mean(tf.reshape(log_mel, (1, 10, 10, 64)), axis=2) @ bands
        frames = tf.sigmoid(2 * (levels + np.float32([2.5, 3.2, 2.5])))
        return {"clipwise": tf.reduce_max(frames, axis=1), "framewise": frames}

    model_card = card(seconds_per_frame=0.1, thresholds=(0.5, 0.5, 0.9), origin="three loudnesses")
    return convert("loud", tag, "log_mel", (1, WINDOW_FRAMES, 64), model_card)
