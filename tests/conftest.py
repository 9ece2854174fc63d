"""The environment of every test: few threads, no display, fixed seeds, and no real data unless it is present."""

import os

# These libraries read the environment when they are imported, so it is set before.
if "PYTEST_XDIST_WORKER" in os.environ:  # one core, even if the parent process has set another number
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the commands of kerastag
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "Agg")

import gc
import random
import sys
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

from checks import NO_SHARED, SHARED

# Graphs are many small objects that live as long as a test. Collecting garbage less often saves 5 % of the time.
gc.set_threshold(100_000, 50, 100)

# Without randomness and a database of examples, a checkout passes or fails the same way each time.
hypothesis.settings.register_profile("kerastag", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("kerastag")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests with the marker `real` if the real data is absent."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests with the marker `gpu` if TensorFlow sees no GPU."""
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("no GPU is visible: set CUDA_VISIBLE_DEVICES=0 where there is one")


@pytest.fixture(autouse=True)
def reset_state() -> Iterator[None]:
    """Seed every generator before a test, and reset the dtype policy after it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn and Keras initializers use the global state
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.set_random_seed(0)
    yield
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.config.set_dtype_policy("float32")
