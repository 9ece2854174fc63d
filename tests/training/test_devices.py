"""Tests of training on several devices of one machine: two logical CPUs stand for two GPUs."""

import pytest

from checks import run_python

keras = pytest.importorskip("keras")

MIRRORED = """
import sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from kerastag.training.config import TrainingConfig
from kerastag.training.optimization import compile_model
from kerastag.training.state import build_optimizer, load_state, save_state

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
several = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one = tf.distribute.get_strategy()
x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
y = (x[:, :2] > 0).astype("float32")


def build(devices):
    keras.utils.set_random_seed(0)
    with devices.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="sigmoid")])
    model = compile_model(model, TrainingConfig(steps=8, batch_size=8, learning_rate=0.1))
    build_optimizer(model)
    return model


def train(model, start, stop):
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat().skip(start).take(stop - start)
    model.fit(batches, steps_per_epoch=stop - start, verbose=0)
    return model


mirrored = train(build(several), 0, 2)
assert "Mirrored" in type(mirrored.optimizer.variables[2].value).__name__
save_state(Path(sys.argv[1]), mirrored, {})
resumed = build(several)
load_state(Path(sys.argv[1]), resumed)
for model in (train(mirrored, 2, 4), train(resumed, 2, 4)):
    for actual, expected in zip(model.get_weights(), train(build(one), 0, 4).get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy needs TensorFlow")
def test_two_devices_train_to_the_weights_of_one_and_a_run_is_resumed(tmp_path):
    run_python(f"import sys; sys.argv[1:] = [{str(tmp_path / 'state.npz')!r}]\n{MIRRORED}")
