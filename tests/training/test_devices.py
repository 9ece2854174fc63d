"""Training on several devices of one machine: two halves of the processor stand for two GPUs."""

import pytest

from checks import run_python

keras = pytest.importorskip("keras")

MIRRORED = """
import sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from kerastag.training.fit import compiled
from kerastag.training.settings import TrainingSettings
from kerastag.training.state import build_optimizer, load_state, save_state

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
several = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one = tf.distribute.get_strategy()
x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
y = (x[:, :2] > 0).astype("float32")


def model_on(devices):
    keras.utils.set_random_seed(0)
    with devices.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="sigmoid")])
    model = compiled(model, TrainingSettings(steps=8, batch_size=8, learning_rate=0.1))
    build_optimizer(model)
    return model


def trained(model, start, stop):
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat().skip(start).take(stop - start)
    model.fit(batches, steps_per_epoch=stop - start, verbose=0)
    return model


mirrored = trained(model_on(several), 0, 2)
assert "Mirrored" in type(mirrored.optimizer.variables[2].value).__name__
save_state(Path(sys.argv[1]), mirrored, {})
resumed = model_on(several)
load_state(Path(sys.argv[1]), resumed)
for model in (trained(mirrored, 2, 4), trained(resumed, 2, 4)):
    for got, wanted in zip(model.get_weights(), trained(model_on(one), 0, 4).get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="mirrors are TensorFlow's")
def test_two_devices_give_what_one_gives_and_a_run_goes_on(tmp_path):
    run_python(f"import sys; sys.argv[1:] = [{str(tmp_path / 'state.npz')!r}]\n{MIRRORED}")
