"""The gate: how far a file may be from Keras, and what is Keras's own rounding."""

from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, built, card_of

from kerastag.export import parity, probes
from kerastag.export.serving import Served, serve
from kerastag.export.source import Source, rebuilt
from kerastag.export.target import Target, Tolerance

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(scope="module")
def cancelling() -> Served:
    """A network that loses digits: what it takes a root of and away again is thousands of times what is left."""
    embedding = keras.Input((10, 128), name="embedding")
    left = keras.ops.sqrt(100 * keras.ops.square(embedding[:, :, : len(CLASSES)]) + 3e3**2) - 3e3
    network = keras.Model(embedding, {"framewise": keras.ops.sigmoid(left)})
    source = Source(network, card_of("vggish", 9.6, 0.96), Path("cancelling.keras"))
    return serve(source, Target(name="float32"))


def apart_from_exact(served: Served, times: float) -> parity.Run:
    """Something that runs, so many times as far from the exact result as Keras in float32 is, on the other side."""
    network = rebuilt(served.reference, dtype="float64")

    def run(given: np.ndarray) -> dict[str, np.ndarray]:
        exact = np.asarray(network(given.astype(np.float64), training=False)["framewise"])
        return {"framewise": exact - times * (parity.reference(served, given)["framewise"] - exact)}

    return run


def checked(served: Served, run: parity.Run, path: Path) -> parity.Report:
    path.write_bytes(b"the file")
    return parity.check(path, "cancelling.tflite", "float32", Tolerance(), run, served)


def test_keras_is_no_closer_to_keras_than_its_own_rounding(
    cancelling: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "THREADS", ())
    report = checked(cancelling, apart_from_exact(cancelling, 2.9), tmp_path / "file")
    own = report.roundings["framewise"]["noise 1"]
    assert 1e-5 < own < 1e-3
    assert report.differences["framewise"]["noise 1"] == pytest.approx(3.9 * own, rel=1e-3)
    assert "padding" not in report.roundings["framewise"]  # where it is exact there is nothing to excuse
    assert report.faults() == []
    assert "1.0e-05, or 3 times Keras's own rounding, " in report.table()
    assert report.as_dict()["roundings"]["framewise"]["noise 1"] == own


def test_further_than_that_it_is_refused(cancelling: Served, tmp_path: Path) -> None:
    with pytest.raises(parity.ParityError, match="`framewise` differs by .*, allowed 1e-05"):
        checked(cancelling, apart_from_exact(cancelling, 3.1), tmp_path / "file")


@pytest.mark.parametrize("system", ["feature_attention", "es_max_min", "mn", "talnet"])
def test_a_network_in_float64_says_the_same_more_exactly(system: str) -> None:
    network = built(system, **({"width": 0.1} if system in ("mn", "talnet") else {"units": 8}))
    shape = (10, 128) if network.inputs[0].name == "embedding" else (96, network.inputs[0].shape[-1])
    given = np.random.default_rng(0).standard_normal((2, *shape))
    exact = rebuilt(network, dtype="float64")(given, training=False)
    plain = network(given.astype(np.float32), training=False)
    for output, value in exact.items():
        assert keras.backend.standardize_dtype(value.dtype) == "float64", output
        assert 0 < np.abs(np.asarray(value) - np.asarray(plain[output])).max() < 1e-5


def test_every_probe_counts_for_every_output(cancelling: Served, tmp_path: Path) -> None:
    def wrong(given: np.ndarray) -> dict[str, np.ndarray]:
        said = parity.reference(cancelling, given)["framewise"]
        return {"framewise": said + 0.1 * (not given.any())}

    assert not probes.inputs(cancelling)["padding"].any()
    with pytest.raises(parity.ParityError, match="differs by 0.1 on padding"):
        checked(cancelling, wrong, tmp_path / "file")
