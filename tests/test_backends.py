"""All systems of paper 1, built and saved on one backend, predict the same on JAX."""

import importlib.util
import json

import keras
import numpy as np
import pytest

from checks import compute_outputs, run_python
from kerastag.models import embedding_models as systems

X = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6)).astype("float32")
X[1, 2:] = X[3, 1:] = X[4] = 0  # padding, and a clip of nothing else
SMALL = {"num_classes": 3, "num_features": 6, "units": 8}
BUILDERS = {
    **{f"instance_{p}": (lambda p=p: systems.instance_space(pooling=p, **SMALL)) for p in ("average", "max")},
    **{f"embedded_{p}": (lambda p=p: systems.embedded_space(pooling=p, **SMALL)) for p in systems.POOLINGS},
    **{f.__name__: (lambda f=f: f(**SMALL)) for f in (systems.jdc, systems.self_attention, systems.decision_attention)},
    "multi_attention": lambda: systems.multi_attention(**SMALL),
    **{f"feature_{p}": (lambda p=p: systems.feature_pooling(pooling=p, **SMALL)) for p in ("average", "max")},
    **{f"attention_{p}": (lambda p=p: systems.feature_attention(phi=p, **SMALL)) for p in systems.PHI_NAMES},
}

# Loaded without a builder or `custom_objects` at hand: importing the layers is all that a file needs.
ON_JAX = """
import json, sys
from pathlib import Path
import keras, numpy as np
import kerastag.models.embedding_models
assert keras.backend.backend() == "jax"
assert "tensorflow" not in sys.modules
folder = Path({folder!r})
x = np.load(folder / "x.npy")
for path in sorted(folder.glob("*.keras")):
    outputs = keras.saving.load_model(path).predict_on_batch(x)
    np.savez(path.with_suffix(".npz"), **{{name: np.asarray(value) for name, value in outputs.items()}})
print(json.dumps(sorted(path.stem for path in folder.glob("*.npz"))))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return the outputs of every model on this backend and on JAX."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: install kerastag[jax]")
    folder = tmp_path_factory.mktemp("backends")
    np.save(folder / "x.npy", X)
    outputs_here = {}
    for number, (name, build) in enumerate(BUILDERS.items()):
        keras.utils.set_random_seed(number)
        model = build()
        for weight in model.weights:  # averages and gains as after some training
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(np.random.default_rng(number).uniform(0.5, 2, weight.shape))
        outputs_here[name] = compute_outputs(model, X)
        model.save(folder / f"{name}.keras")
    done = run_python(ON_JAX.format(folder=str(folder)), env={"KERAS_BACKEND": "jax"}, timeout=600)
    assert json.loads(done.splitlines()[-1]) == sorted(BUILDERS)
    return outputs_here, {name: dict(np.load(folder / f"{name}.npz")) for name in BUILDERS}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_jax_predicts_the_same(both, name):
    on_tensorflow, on_jax = (outputs[name] for outputs in both)
    assert on_tensorflow.keys() == on_jax.keys() == {"clipwise", "framewise"}
    for key, value in on_tensorflow.items():
        assert np.ptp(value) > 0
        np.testing.assert_allclose(on_jax[key], value, atol=1e-5)
