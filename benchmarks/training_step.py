"""Time of a training step of feature-level attention: kerastag against a model built from Keras's own layers.

    python benchmarks/training_step.py

All variants take the same random batch of 500 clips in turn, so that a change of the machine's speed affects all of
them, and in a random order, because the previous step determines the content of the caches. *Plain Keras* has the
Dense, BatchNormalization, ReLU, Dropout and Adam of Keras. One variant of kerastag has Keras's dropout, which measures
the share of `HalfDropout`. The large matrix products of a step alone, three for each of four dense layers, are a lower
bound of its time.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from _figures import add_record_flag, describe_environment, print_table
from keras import layers, ops

from kerastag.layers import HalfDropout
from kerastag.models import feature_attention
from kerastag.training.outputs import select_training_outputs

Step = Callable[[], float]
"""Function that runs one step and returns its time in seconds."""


class PlainAttention(layers.Layer):
    """Attention pooling without a custom gradient."""

    def call(self, inputs):
        values, scores = inputs
        weights = ops.clip(ops.sigmoid(scores), 1e-7, 1 - 1e-7)
        return ops.sum(weights / ops.sum(weights, axis=1, keepdims=True) * values, axis=1)


def build_plain(units: int) -> keras.Model:
    """Build feature-level attention from Keras's own layers."""
    embedding = keras.Input((10, 128))
    x = layers.BatchNormalization()(embedding)
    for _ in range(3):
        x = layers.Dense(units, use_bias=False)(x)
        x = layers.Dropout(0.5)(layers.ReLU()(layers.BatchNormalization()(x)))
    x = PlainAttention()([layers.Dense(units)(x), layers.Dense(units)(x)])
    x = layers.Dropout(0.5)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(embedding, layers.Dense(527, activation="sigmoid", dtype="float32")(x))


def build_kerastag(units: int) -> keras.Model:
    """Build feature-level attention as kerastag trains it."""
    return select_training_outputs(feature_attention(units=units))


def build_with_keras_dropout(units: int) -> keras.Model:
    """Build feature-level attention of kerastag with Keras's dropout."""

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layers.Dropout(0.5) if isinstance(layer, HalfDropout) else type(layer).from_config(layer.get_config())

    return keras.models.clone_model(build_kerastag(units), clone_function=replace)


def make_training_step(model_builder: Callable[[int], keras.Model], units: int, policy: str, batch) -> Step:
    """Return a function that runs one training step of a new model."""
    keras.config.set_dtype_policy(policy)
    model = model_builder(units)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")

    def step() -> float:
        start = time.perf_counter()
        model.train_on_batch(*batch)
        return time.perf_counter() - start

    for _ in range(3):
        step()
    return step


def make_products(units: int, dtype: str) -> Step:
    """Return a function that computes the matrix products of a step between layers of `units` units."""
    rng = np.random.default_rng(0)
    rows, weights = (
        ops.cast(rng.standard_normal(shape).astype(np.float32), dtype) for shape in ((5000, units), (units, units))
    )
    products = [  # the outputs, the gradient of the inputs, the gradient of the weights
        tf.function(lambda: ops.matmul(rows, weights)),
        tf.function(lambda: ops.matmul(rows, ops.transpose(weights))),
        tf.function(lambda: ops.matmul(ops.transpose(rows), rows)),
    ]

    def step() -> float:
        start = time.perf_counter()
        for product in 4 * products:
            product()
        return time.perf_counter() - start

    step()
    return step


def main() -> None:
    """Time all variants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="Number of steps of each variant.")
    parser.add_argument("--units", type=int, default=1024, help="Width of the hidden layers.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    batch = (
        rng.integers(-128, 128, (500, 10, 128)).astype(np.float32) / 128,
        (rng.random((500, 527)) < 0.01).astype(np.float32),
    )
    variants = {
        "plain Keras": build_plain,
        "kerastag": build_kerastag,
        "kerastag with Keras's dropout": build_with_keras_dropout,
    }
    steps = {
        f"{name}, {policy}": make_training_step(builder, arguments.units, policy, batch)
        for name, builder in variants.items()
        for policy in ("float32", "mixed_bfloat16")
    }
    steps |= {f"matrix products, {dtype}": make_products(arguments.units, dtype) for dtype in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name in rng.permutation(list(steps)):
            seconds[name].append(steps[name]())
    baseline = seconds["plain Keras, float32"]
    rows = []
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, baseline, strict=True))
        rows.append((name, f"{1e3 * statistics.median(times):.0f}", f"{1e3 * min(times):.0f}", f"{ratio:.3f}"))
    print(describe_environment())
    header = ("step of 500 clips", "median ms", "minimum ms", "median ratio to the first")
    print_table("training_step", header, rows, arguments.record)


if __name__ == "__main__":
    main()
