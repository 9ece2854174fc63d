"""One training step of feature-level attention: a plain Keras rebuild in float32 against kerastag's in bfloat16.

    python benchmarks/training_step.py

All take the same random batch of 500 clips in turn, so that a machine whose speed drifts slows all, and in another
order each round, as a step finds the caches the way the one before it left them. The rebuild is what one writes from
the paper with Keras's own: Dense, BatchNormalization, ReLU, Dropout, Adam. The large matrix products of a step alone,
three to each of four dense layers, are timed beside them: no step takes less.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from kerastag.models.embedding_models import feature_attention
from kerastag.recipes._run import versions
from kerastag.training.fused_adam import FusedAdam
from kerastag.training.outputs import select_training_outputs


class PlainAttention(layers.Layer):
    """Attention pooling as one writes it down."""

    def call(self, inputs):
        values, scores = inputs
        weights = ops.clip(ops.sigmoid(scores), 1e-7, 1 - 1e-7)
        return ops.sum(weights / ops.sum(weights, axis=1, keepdims=True) * values, axis=1)


def plain(units: int) -> keras.Model:
    """Feature-level attention from Keras's own layers."""
    embedding = keras.Input((10, 128))
    x = layers.BatchNormalization()(embedding)
    for _ in range(3):
        x = layers.Dense(units, use_bias=False)(x)
        x = layers.Dropout(0.5)(layers.ReLU()(layers.BatchNormalization()(x)))
    x = PlainAttention()([layers.Dense(units)(x), layers.Dense(units)(x)])
    x = layers.Dropout(0.5)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(embedding, layers.Dense(527, activation="sigmoid", dtype="float32")(x))


def stepper(build, policy: str, batch, adam=keras.optimizers.Adam):
    """A function that makes one training step and returns its seconds."""
    keras.config.set_dtype_policy(policy)
    model = build()
    model.compile(adam(1e-3), "binary_crossentropy")

    def step() -> float:
        started = time.perf_counter()
        model.train_on_batch(*batch)
        return time.perf_counter() - started

    for _ in range(3):
        step()
    return step


def products(units: int, dtype: str):
    """A function that makes the products of a step between layers of so many units and returns its seconds."""
    random = np.random.default_rng(0)
    rows, weights = (
        ops.cast(random.standard_normal(shape).astype(np.float32), dtype) for shape in ((5000, units), (units, units))
    )
    large = [  # of the outputs, of the inputs' gradient, of the weights' gradient
        tf.function(lambda: ops.matmul(rows, weights)),
        tf.function(lambda: ops.matmul(rows, ops.transpose(weights))),
        tf.function(lambda: ops.matmul(ops.transpose(rows), rows)),
    ]

    def step() -> float:
        started = time.perf_counter()
        for product in 4 * large:
            product()
        return time.perf_counter() - started

    step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--units", type=int, default=1024)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    batch = (
        random.integers(-128, 128, (500, 10, 128)).astype(np.float32) / 128,
        (random.random((500, 527)) < 0.01).astype(np.float32),
    )
    steps = {
        "plain Keras, float32": stepper(lambda: plain(arguments.units), "float32", batch),
        "plain Keras, mixed_bfloat16": stepper(lambda: plain(arguments.units), "mixed_bfloat16", batch),
        "kerastag, float32": stepper(lambda: ours(arguments.units), "float32", batch, FusedAdam),
        "kerastag, mixed_bfloat16": stepper(lambda: ours(arguments.units), "mixed_bfloat16", batch, FusedAdam),
        "its products alone, float32": products(arguments.units, "float32"),
        "its products alone, bfloat16": products(arguments.units, "bfloat16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name in random.permutation(list(steps)):
            seconds[name].append(steps[name]())
    print(" · ".join(f"{name} {version}" for name, version in versions().items()))
    print(
        "| step of 500 clips | median ms | fastest ms | ratio to the first, pair by pair |\n| --- | --- | --- | --- |"
    )
    first = seconds["plain Keras, float32"]
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
        print(f"| {name} | {1e3 * statistics.median(found):.0f} | {1e3 * min(found):.0f} | {ratio:.3f} |")


def ours(units: int) -> keras.Model:
    return select_training_outputs(feature_attention(units=units))


if __name__ == "__main__":
    main()
