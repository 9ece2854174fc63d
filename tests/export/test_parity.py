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
def canceling() -> Served:
    """A network that loses digits: what it takes a root of and away again is thousands of times what is left."""
    embedding = keras.Input((10, 128), name="embedding")
    left = keras.ops.sqrt(100 * keras.ops.square(embedding[:, :, : len(CLASSES)]) + 3e3**2) - 3e3
    network = keras.Model(embedding, {"framewise": keras.ops.sigmoid(left)})
    source = Source(network, card_of("vggish", 9.6, 0.96), Path("canceling.keras"))
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
    return parity.check(path, "canceling.tflite", "float32", Tolerance(), run, served)


def test_keras_is_no_closer_to_keras_than_its_own_rounding(
    canceling: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "THREADS", ())
    report = checked(canceling, apart_from_exact(canceling, 2.9), tmp_path / "file")
    own = report.roundings["framewise"]["noise 1"]
    assert 1e-5 < own < 1e-3
    assert report.differences["framewise"]["noise 1"] == pytest.approx(3.9 * own, rel=1e-3)
    assert "padding" not in report.roundings["framewise"]  # where it is exact there is nothing to excuse
    assert report.faults() == []
    assert "1.0e-05, or 3 times Keras's own rounding, " in report.table()
    assert report.as_dict()["roundings"]["framewise"]["noise 1"] == own


def test_further_than_that_it_is_refused(canceling: Served, tmp_path: Path) -> None:
    with pytest.raises(parity.ParityError, match="`framewise` differs by .*, allowed 1e-05"):
        checked(canceling, apart_from_exact(canceling, 3.1), tmp_path / "file")


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


def test_every_probe_counts_for_every_output(canceling: Served, tmp_path: Path) -> None:
    def wrong(given: np.ndarray) -> dict[str, np.ndarray]:
        said = parity.reference(canceling, given)["framewise"]
        return {"framewise": said + 0.1 * (not given.any())}

    assert not probes.inputs(canceling)["padding"].any()
    with pytest.raises(parity.ParityError, match="differs by 0.1 on padding"):
        checked(canceling, wrong, tmp_path / "file")


@pytest.fixture(scope="module")
def two_streams() -> Served:
    # Weights that tell the parts of a clip apart.
    network = built("gl_at_cnn10", seed=1, width=0.0625, num_sub_clips=2, sub_clip_seconds=1.0, sub_clip_pooling="max")
    return serve(Source(network, card_of("panns", 3.0, 0.16), Path("two.keras")), Target(name="int8_dynamic"))


def listening_elsewhere(served: Served, more: float = 0.0) -> parity.Run:
    """Something that runs and whose local stream hears the clip's beginning, with so much more of every class."""
    select = served.reference.get_layer("select")

    def run(given: np.ndarray) -> dict[str, np.ndarray]:
        said = parity.reference(served, given)
        with select.listening_at(np.zeros(len(given))):
            clipwise = np.asarray(served.reference(given, training=False)["clipwise"])
        return {**said, "clipwise": clipwise + more}

    return run


EIGHT_BITS = Tolerance(clipwise=1e-4, framewise=0.5, embedding=0.3)


def test_a_file_in_few_bits_may_listen_elsewhere(
    two_streams: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "THREADS", ())
    path = tmp_path / "file"
    path.write_bytes(b"the file")
    report = parity.check(path, "two.tflite", "int8", EIGHT_BITS, listening_elsewhere(two_streams), two_streams)
    apart = report.windows["clipwise"]
    assert max(apart.values()) > 1e-3
    assert max(report.differences["clipwise"].values()) <= 1e-4
    assert "| clipwise, with windows elsewhere | " in report.table()
    assert report.as_dict()["windows"]["clipwise"] == apart
    assert two_streams.reference.get_layer("select")._told is None


def test_what_no_window_gives_is_refused_and_a_float32_file_listens_where_keras_does(
    two_streams: Served, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"the file")
    with pytest.raises(parity.ParityError, match="`clipwise` differs by 0.2"):
        parity.check(path, "two.tflite", "int8", EIGHT_BITS, listening_elsewhere(two_streams, 0.25), two_streams)
    exactly = Tolerance(clipwise=1e-4, embedding=0.3)
    with pytest.raises(parity.ParityError, match="`clipwise` differs by .*, allowed 0.0001"):
        parity.check(path, "two.tflite", "float32", exactly, listening_elsewhere(two_streams), two_streams)
