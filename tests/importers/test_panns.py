"""PANNs checkpoints: names and shapes of the published ones, outputs in NumPy, and files that are rejected."""

import functools

import keras
import numpy as np
import pytest
from importers import numpy_networks
from importers.torch_writing import make_random_state, pickle_value, write_torch_stream, write_torch_zip

from kerastag.card import Card
from kerastag.dsp import FRONT_ENDS
from kerastag.importers import import_panns
from kerastag.labels import LabelSet

WIDTH = 0.125
CLASSES = LabelSet.from_names([f"class {index}" for index in range(7)])
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def list_norm_shapes(name, channels):
    return {f"{name}.{part}": () if part == "num_batches_tracked" else (channels,) for part in NORM}


def list_block_shapes(name, inputs, outputs):
    shapes = {f"{name}.conv1.weight": (outputs, inputs, 3, 3), f"{name}.conv2.weight": (outputs, outputs, 3, 3)}
    return {**shapes, **list_norm_shapes(f"{name}.bn1", outputs), **list_norm_shapes(f"{name}.bn2", outputs)}


def list_panns_shapes(system):
    """Return the names and shapes of PANNs' own classes."""
    c = [int(channels * WIDTH) for channels in (64, 128, 256, 512, 2048)]
    shapes = {
        "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
        "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
        "logmel_extractor.melW": (513, 64),
        **list_norm_shapes("bn0", 64),
        **list_block_shapes("conv_block1", 1, c[0]),
    }
    if system == "cnn10":
        for block in (2, 3, 4):
            shapes |= list_block_shapes(f"conv_block{block}", c[block - 2], c[block - 1])
        units = c[3]
    else:
        for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
            for block in range(blocks):
                inputs = c[max(stage - 2, 0)] if block == 0 else c[stage - 1]
                name = f"resnet.layer{stage}.{block}"
                shapes |= list_block_shapes(name, inputs, c[stage - 1])
                if stage > 1 and block == 0:
                    shapes[f"{name}.downsample.1.weight"] = (c[stage - 1], inputs, 1, 1)
                    shapes |= list_norm_shapes(f"{name}.downsample.2", c[stage - 1])
        shapes |= list_block_shapes("conv_block_after1", c[3], c[4])
        units = c[4]
    dense = {"fc1.weight": (units, units), "fc1.bias": (units,)}
    return {**shapes, **dense, "fc_audioset.weight": (7, units), "fc_audioset.bias": (7,)}


@functools.cache
def make_panns_state(system):
    state = make_random_state(list_panns_shapes(system))
    state["logmel_extractor.melW"] = FRONT_ENDS["panns"].mel_matrix.astype(np.float32)
    for name in list(state):
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(12, np.int64)
    return state


@pytest.mark.parametrize("system", ["cnn10", pytest.param("resnet38", marks=pytest.mark.slow)])
def test_the_network_equals_the_published_one_in_numpy(system, tmp_path):
    state = make_panns_state(system)
    path = import_panns(
        write_torch_zip(tmp_path / "a.pth", state, "model", iteration=pickle_value(5)),
        tmp_path / "a.keras",
        labels=CLASSES,
    )
    log_mel = np.random.default_rng(1).normal(-20, 10, (2, 75, 64)).astype(np.float32)
    outputs = numpy_networks.compute_outputs(path, log_mel)
    expected = getattr(numpy_networks, system)(log_mel, state)
    assert expected["clipwise"].std() > 0.05  # Were the sigmoid saturated, the comparison could not fail.
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_stream_and_the_zip_format_contain_the_same_model_and_card(tmp_path):
    state = make_panns_state("cnn10")
    files = [write(tmp_path / write.__name__, state, "model") for write in (write_torch_zip, write_torch_stream)]
    paths = [import_panns(file, file.with_suffix(".keras"), labels=CLASSES) for file in files]
    first, second = (keras.saving.load_model(path) for path in paths)
    for first_weight, second_weight in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(first_weight, second_weight)
    card = Card.read(paths[0])
    assert card.labels == CLASSES
    assert card.front_end == FRONT_ENDS["panns"].as_dict()
    assert (card.sample_rate, card.seconds_per_frame) == (32_000, 0.16)
    assert first.inputs[0].name == "waveform"
    assert first(np.zeros((1, 32_000), np.float32))["clipwise"].shape == (1, 7)


def change_state(state, **changes):
    return {
        **{name: array for name, array in state.items() if changes.get(name, array) is not None},
        **{name: array for name, array in changes.items() if array is not None},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc1.bias": None}, r"1 missing: fc1\.bias$"),
        (
            {"conv_block5.conv1.weight": np.zeros((128, 64, 3, 3), np.float32)},
            r"must be a checkpoint of PANNs' CNN10; received: 1 unexpected: conv_block5\.conv1\.weight$",
        ),
        (
            {"conv_block1.conv1.weight": np.zeros((64_000, 1, 3, 3), np.float32)},
            r"must be a checkpoint of PANNs' CNN10 at width 1000, at least 2,600,000,000,000 bytes; received: ",
        ),
        ({"fc1.bias": np.zeros(3, np.float32)}, r"1 of another shape: fc1\.bias is \(3,\), not \(64,\)$"),
        ({"fc1.bias": np.full(64, np.nan, np.float32)}, r"`fc1\.bias` must be finite; received: nan$"),
        (
            {"logmel_extractor.melW": np.zeros((513, 64), np.float32)},
            r"melW` must be the mel filters of PANNs at 32 kHz; received: other filters$",
        ),
        ({"logmel_extractor.melW": np.zeros((257, 64), np.float32)}, r"melW is \(257, 64\), not \(513, 64\)$"),
        ({"logmel_extractor.melW": None}, r"1 missing: logmel_extractor\.melW$"),
        (
            {"fc_audioset.weight": None},
            r"must be a checkpoint of PANNs' CNN10; received: no weights of `fc_audioset` and `conv_block1`$",
        ),
    ],
)
def test_a_missing_unexpected_or_wrong_tensor_is_named_and_nothing_is_written(changes, message, tmp_path):
    file = write_torch_zip(tmp_path / "a.pth", change_state(make_panns_state("cnn10"), **changes), "model")
    with pytest.raises(ValueError, match=message) as raised:
        import_panns(file, tmp_path / "a.keras", labels=CLASSES)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_labels_must_match_the_number_of_classes(tmp_path):
    file = write_torch_zip(tmp_path / "a.pth", make_panns_state("cnn10"), "model")
    with pytest.raises(ValueError, match=r"`labels` must name the checkpoint's 7 classes; received: 527 \(AudioSet's"):
        import_panns(file, tmp_path / "a.keras")


def test_output_is_checked_before_the_file_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"`output` must end in \.keras; received: .*a\.h5"):
        import_panns(tmp_path / "absent.pth", tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match="`output` must be in a folder that exists; received: .*absent"):
        import_panns(tmp_path / "absent.pth", tmp_path / "absent" / "a.keras")
    with pytest.raises(FileNotFoundError, match="absent.pth: no such file"):
        import_panns(tmp_path / "absent.pth", tmp_path / "a.keras")
