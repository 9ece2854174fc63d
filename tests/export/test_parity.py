"""The comparison with Keras: how far a file may be from it, and how far Keras itself is from the exact result."""

from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, build_model, make_card

from kerastag.export import ExportReport, ParityError, Target, Tolerance, parity
from kerastag.export.inputs import make_probes
from kerastag.export.parity import FixedSubClipModel, Run, check_parity, predict_reference
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.source import SourceModel, rebuild_network
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(scope="module")
def canceling() -> PreparedModel:
    """Prepare a network that loses digits, because it subtracts numbers thousands of times as large as the result."""
    embedding = keras.Input((10, 128), name="embedding")
    small = keras.ops.sqrt(100 * keras.ops.square(embedding[:, :, : len(CLASSES)]) + 3e3**2) - 3e3
    network = keras.Model(embedding, {"framewise": keras.ops.sigmoid(small)})
    source = SourceModel(network, make_card("vggish", 9.6, 0.96), Path("canceling.keras"))
    return prepare_model(source, Target(name="float32"))


def make_inexact_run(prepared: PreparedModel, times: float) -> Run:
    """Make a function that is so many times as far from the exact result as Keras, in the opposite direction."""
    network = rebuild_network(prepared.reference, dtype="float64")

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        exact = np.asarray(network(batch.astype(np.float64), training=False)["framewise"])
        return {"framewise": exact - times * (predict_reference(prepared, batch)["framewise"] - exact)}

    return run


def check(prepared: PreparedModel, run: Run, path: Path, tolerance: Tolerance | None = None) -> ExportReport:
    path.write_bytes(b"the file")
    target = Target(name="mine", tolerance=tolerance or Tolerance())
    return check_parity(path, "model.tflite", target, run, prepared)


def test_a_difference_within_the_rounding_of_keras_is_excused(
    canceling: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_NUM_THREADS", ())
    report = check(canceling, make_inexact_run(canceling, 2.9), tmp_path / "file")
    rounding = report.roundings["framewise"]["noise 1"]
    assert 1e-5 < rounding < 1e-3
    assert report.differences["framewise"]["noise 1"] == pytest.approx(3.9 * rounding, rel=1e-3)
    assert "padding" not in report.roundings["framewise"]  # Keras is exact there
    assert report.find_violations() == []
    assert "1.0e-05, or 3 times Keras's own rounding, " in report.as_markdown()
    assert report.as_dict()["roundings"]["framewise"]["noise 1"] == rounding


def test_a_difference_beyond_the_rounding_of_keras_is_refused(canceling: PreparedModel, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="`framewise` differs by .*, allowed 1e-05"):
        check(canceling, make_inexact_run(canceling, 3.1), tmp_path / "file")


@pytest.mark.parametrize(
    "system", ["feature_attention", "es_max_min", "talnet", pytest.param("mn", marks=pytest.mark.slow)]
)
def test_a_network_rebuilt_in_float64_predicts_the_same_more_exactly(system: str) -> None:
    network = build_model(system, **({"width": 0.1} if system in ("mn", "talnet") else {"units": 8}))
    shape = (10, 128) if network.inputs[0].name == "embedding" else (96, network.inputs[0].shape[-1])
    inputs = np.random.default_rng(0).standard_normal((2, *shape))
    exact = rebuild_network(network, dtype="float64")(inputs, training=False)
    rounded = network(inputs.astype(np.float32), training=False)
    for output, value in exact.items():
        assert keras.backend.standardize_dtype(value.dtype) == "float64", output
        assert 0 < np.abs(np.asarray(value) - np.asarray(rounded[output])).max() < 1e-5


def test_every_probe_counts_for_every_output(canceling: PreparedModel, tmp_path: Path) -> None:
    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        framewise = predict_reference(canceling, batch)["framewise"]
        return {"framewise": framewise + 0.1 * (not batch.any())}

    probes = make_probes(canceling)
    assert not probes["padding"].any()
    assert probes["one segment"].any(axis=-1).sum() == 1
    with pytest.raises(ParityError, match="differs by 0.1 on padding"):
        check(canceling, run, tmp_path / "file")


@pytest.fixture(scope="module")
def two_streams() -> PreparedModel:
    # With these weights, the predictions for the parts of a clip differ.
    arguments = {"width": 0.0625, "num_sub_clips": 2, "sub_clip_seconds": 0.5, "sub_clip_pooling": "max"}
    network = build_model("gl_at_cnn10", seed=1, **arguments)
    source = SourceModel(network, make_card("panns", 1.5, 0.16), Path("two.keras"))
    return prepare_model(source, Target(name="int8_dynamic"))


def make_run_with_first_sub_clips(prepared: PreparedModel, offset: float = 0.0) -> Run:
    """Make a function that selects the beginning of the clip for every class, and adds an offset to `clipwise`."""
    model = FixedSubClipModel(prepared.reference)

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        clipwise = model.predict(batch, np.zeros(len(batch)))
        return {**predict_reference(prepared, batch), "clipwise": clipwise + offset}

    return run


EIGHT_BITS = Tolerance(clipwise=1e-4, framewise=0.5, embedding=0.3)


@pytest.fixture
def two_probes(two_streams: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare a model of two streams on two probes only: every one is computed for all sub-clips."""
    probes = make_probes(two_streams)
    monkeypatch.setattr(parity, "make_probes", lambda _: {name: probes[name] for name in ("silence", "speech 0.5")})


@pytest.mark.usefixtures("two_probes")
def test_a_file_in_few_bits_may_select_other_sub_clips(
    two_streams: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_NUM_THREADS", ())
    report = check(two_streams, make_run_with_first_sub_clips(two_streams), tmp_path / "file", EIGHT_BITS)
    differences = report.sub_clip_differences["clipwise"]
    assert max(differences.values()) > 1e-3
    assert max(report.differences["clipwise"].values()) <= 1e-4
    assert "| clipwise, other sub-clips | " in report.as_markdown()
    assert report.as_dict()["windows"]["clipwise"] == differences
    assert type(two_streams.reference.get_layer("select")) is ClassWiseClipSelect


@pytest.mark.usefixtures("two_probes")
def test_probabilities_of_no_sub_clip_are_refused(two_streams: PreparedModel, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="`clipwise` differs by 0.2"):
        check(two_streams, make_run_with_first_sub_clips(two_streams, 0.25), tmp_path / "file", EIGHT_BITS)


@pytest.mark.usefixtures("two_probes")
def test_a_float32_file_must_select_the_sub_clips_of_keras(two_streams: PreparedModel, tmp_path: Path) -> None:
    tolerance = Tolerance(clipwise=1e-4, embedding=0.3)
    with pytest.raises(ParityError, match="`clipwise` differs by .*, allowed 0.0001"):
        check(two_streams, make_run_with_first_sub_clips(two_streams), tmp_path / "file", tolerance)
