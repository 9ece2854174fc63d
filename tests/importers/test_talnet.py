"""TALNet's checkpoints: names and shapes of its public code, outputs in NumPy, and files that are rejected."""

import functools

import keras
import numpy as np
import pytest
from importers import numpy_networks
from importers.torch_writing import make_random_state, pickle_value, write_torch_stream, write_torch_zip

from kerastag.card import Card
from kerastag.dsp import FRONT_ENDS
from kerastag.importers import import_talnet
from kerastag.labels import LabelSet

EMBEDDING = 128  # 1024 in the published model
CLASSES = LabelSet.from_names([f"class {index}" for index in range(7)])
MEAN, STD = np.linspace(-50, -30, 64), np.linspace(15, 25, 64)


def list_talnet_shapes(embedding=EMBEDDING):
    """Return the names and shapes of TALNet's own class, whose convolutions have a bias beside batch normalization."""
    shapes, inputs, bins = {}, 1, 64
    for layer in range(1, 11):
        bins //= 1 + (layer % 2 == 0)
        outputs = embedding * (1 + layer % 2) // bins
        shapes |= {f"conv{layer}.conv.weight": (outputs, inputs, 3, 3), f"conv{layer}.conv.bias": (outputs,)}
        shapes |= {f"conv{layer}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"conv{layer}.bn.num_batches_tracked"] = ()
        inputs = outputs
    units = embedding // 2
    for suffix in ("", "_reverse"):
        shapes |= {f"gru.weight_ih_l0{suffix}": (3 * units, embedding), f"gru.weight_hh_l0{suffix}": (3 * units, units)}
        shapes |= {f"gru.bias_{part}_l0{suffix}": (3 * units,) for part in ("ih", "hh")}
    return {**shapes, "fc_prob.weight": (7, embedding), "fc_prob.bias": (7,)}


@functools.cache
def make_state():
    state = make_random_state(list_talnet_shapes())
    rng = np.random.default_rng(1)
    for name, array in state.items():
        if name.endswith("bn.weight"):
            state[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        elif name.startswith(("gru.weight", "fc_prob.weight")):  # of a size at which gates and probabilities differ
            state[name] = 3 * array
        elif name.endswith("num_batches_tracked"):
            state[name] = np.array(12, np.int64)
    return state


@pytest.fixture(scope="module")
def normalizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("normalizer") / "normalizer.npz"
    np.savez(path, mean=MEAN, std=STD)
    return path


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
def test_the_network_equals_the_published_one_in_numpy(write, normalizer, tmp_path):
    """In both formats, with an optimizer beside the weights as in the files of its training."""
    state = make_state()
    optimizer = pickle_value({"state": {140: {"step": 7}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]})
    file = write(tmp_path / "checkpoint1.pt", state, "model", optimizer=optimizer)
    path = import_talnet(file, tmp_path / "talnet.keras", normalizer=normalizer, labels=CLASSES)
    log_mel = np.random.default_rng(2).normal(MEAN, STD, (2, 50, 64)).astype(np.float32)
    outputs, expected = numpy_networks.compute_outputs(path, log_mel), numpy_networks.talnet(log_mel, state, MEAN, STD)
    assert expected["framewise"].shape == (2, 12, 7)
    assert expected["framewise"].std(axis=1).min() > 0.01
    assert expected["clipwise"].std() > 0.05
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_model_takes_waveforms_and_has_a_card(tmp_path):
    np.savez(tmp_path / "one.npz", mean=-40.0, std=[20.0])
    file = write_torch_zip(tmp_path / "TALNet.pt", make_state(), "model")
    path = import_talnet(file, tmp_path / "a.keras", normalizer=tmp_path / "one.npz", labels=CLASSES)
    card = Card.read(path)
    assert (card.labels, card.sample_rate, card.seconds_per_frame) == (CLASSES, 16_000, 0.1)
    assert card.front_end == FRONT_ENDS["talnet"].as_dict()
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 16_000)).astype(np.float32)
    outputs = keras.saving.load_model(path)(waveform)
    log_mel = FRONT_ENDS["talnet"].compute_log_mel(waveform)
    expected = numpy_networks.talnet(log_mel, make_state(), -40, 20)
    np.testing.assert_allclose(outputs["framewise"], expected["framewise"], rtol=1e-3, atol=1e-4)


def test_the_smallest_checkpoint_that_is_accepted_has_the_published_number_of_weights():
    from kerastag.importers.talnet import _NUM_WEIGHTS

    shapes = list_talnet_shapes(1024)
    shapes |= {"fc_prob.weight": (527, 1024), "fc_prob.bias": (527,)}
    assert sum(np.prod(shape, dtype=int) for shape in shapes.values()) == pytest.approx(_NUM_WEIGHTS, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gru.bias_hh_l0_reverse": None}, r"TALNet at width 0\.125; received: 1 missing: gru\.bias_hh_l0_reverse$"),
        ({"fc_att.weight": np.zeros((7, 128), np.float32)}, r"received: 1 unexpected: fc_att\.weight$"),
        (
            {"conv10.conv.bias": np.zeros(3, np.float32)},
            r"1 of another shape: conv10\.conv\.bias is \(3,\), not \(64,\)$",
        ),
        (
            {"gru.weight_hh_l0": np.full((192, 64), np.inf, np.float32)},
            r"`gru\.weight_hh_l0` must be finite; received: inf",
        ),
        ({"fc_prob.weight": None}, r"TALNet; received: no weights of `fc_prob` and `conv1\.conv`$"),
        ({"conv1.conv.weight": np.zeros((64_000, 1, 1, 1), np.float32)}, r"TALNet at width 2000, at least .* bytes"),
    ],
)
def test_a_missing_unexpected_or_wrong_tensor_is_named_and_nothing_is_written(changes, message, normalizer, tmp_path):
    state = {name: array for name, array in {**make_state(), **changes}.items() if array is not None}
    file = write_torch_zip(tmp_path / "a.pt", state, "model")
    with pytest.raises(ValueError, match=message) as raised:
        import_talnet(file, tmp_path / "a.keras", normalizer=normalizer, labels=CLASSES)
    assert str(file) in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": MEAN}, "`std` must be one number or 64 numbers; received: nothing"),
        ({"mean": np.zeros(128), "std": STD}, r"`mean` must be .* received: float64 of shape \(128,\)"),
        ({"mean": np.array(["x"] * 64), "std": STD}, r"`mean` must be .* received: <U1 of shape \(64,\)"),
        ({"mean": MEAN, "std": np.nan * STD}, "`std` must be finite; received: nan"),
        ({"mean": MEAN, "std": 0 * STD}, r"`std` must be at least 0\.0032; received: 0"),
    ],
)
def test_a_normalizer_that_is_not_one_is_named(arrays, message, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as raised:
        import_talnet(tmp_path / "a.pt", tmp_path / "a.keras", normalizer=tmp_path / "bad.npz")
    assert str(raised.value).startswith(str(tmp_path / "bad.npz"))


def test_a_pickle_is_not_a_normalizer(tmp_path):
    (tmp_path / "normalizer.pkl").write_bytes(b"\x80\x02.")
    with pytest.raises(ValueError, match=r"normalizer\.pkl: not a complete \.npz file"):
        import_talnet(tmp_path / "a.pt", tmp_path / "a.keras", normalizer=tmp_path / "normalizer.pkl")
