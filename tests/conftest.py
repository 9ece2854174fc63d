"""What every test runs under: few threads, no display, fixed seeds, and real data only where it is."""

import os

# These libraries read their environment once, at import: so this comes before any of them.
if "PYTEST_XDIST_WORKER" in os.environ:  # a core to itself, whatever the process that started it has set
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as our commands have it
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

# Graphs are many small objects that live for a test: looked through less often, they cost a twentieth less time.
gc.set_threshold(100_000, 50, 100)

# Derandomized, so that a clean checkout passes or fails the same way twice; a fixed database would be state.
hypothesis.settings.register_profile("kerastag", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("kerastag")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what carries the marker `real` where the real data is absent."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))


@pytest.fixture(autouse=True)
def fixed_state() -> Iterator[None]:
    """Seed every generator before a test, and undo a precision that the test has set."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn and Keras initializers read the global state
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.set_random_seed(0)
    yield
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.config.set_dtype_policy("float32")
