"""EfficientAT checkpoints: names and shapes of mn04, outputs in NumPy, and files that are rejected."""

import numpy as np
import pytest
from importers import numpy_networks
from importers.torch_writing import make_random_state, write_torch_zip

from checks import SHARED
from kerastag.importers import TorchFile, import_efficientat
from kerastag.labels import LabelSet
from kerastag.models.backbones.mn import BLOCKS, round_channels

MN04 = SHARED / "data/weights/mn04_as_mAP_432.pt"
CLASSES = LabelSet.from_names([f"class {index}" for index in range(5)])


def list_mn_shapes(width, classes=5):
    """Return the names and shapes of EfficientAT's own class."""

    def list_unit(name, outputs, inputs, size):
        norm = {f"{name}.1.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
        return {f"{name}.0.weight": (outputs, inputs, size, size), **norm}

    shapes = list_unit("features.0", round_channels(16 * width), 1, 3)
    for index, row in enumerate(BLOCKS, start=1):
        inputs, expanded, outputs = (round_channels(n * width) for n in (row.inputs, row.expanded, row.outputs))
        units = [] if expanded == inputs else [(expanded, inputs, 1)]
        units.append((expanded, 1, row.kernel_size))
        for part, sizes in enumerate(units):
            shapes |= list_unit(f"features.{index}.block.{part}", *sizes)
        part = len(units)
        if row.squeeze_excite:
            name, hidden = f"features.{index}.block.{part}.conc_se_layers.0", round_channels(expanded // 4)
            shapes |= {f"{name}.fc1.weight": (hidden, expanded), f"{name}.fc1.bias": (hidden,)}
            shapes |= {f"{name}.fc2.weight": (expanded, hidden), f"{name}.fc2.bias": (expanded,)}
            part += 1
        shapes |= list_unit(f"features.{index}.block.{part}", outputs, expanded, 1)
    last, hidden = 6 * round_channels(160 * width), round_channels(1280 * width)
    shapes |= list_unit("features.16", last, round_channels(160 * width), 1)
    shapes |= {"classifier.2.weight": (hidden, last), "classifier.2.bias": (hidden,)}
    return {**shapes, "classifier.5.weight": (classes, hidden), "classifier.5.bias": (classes,)}


@pytest.mark.parametrize("frames", [77, pytest.param(64, marks=pytest.mark.slow)])
def test_the_network_equals_the_published_one_in_numpy(frames, tmp_path):
    state = make_random_state(list_mn_shapes(0.2))
    path = import_efficientat(write_torch_zip(tmp_path / "mn02.pt", state), tmp_path / "mn02.keras", labels=CLASSES)
    log_mel = np.random.default_rng(1).normal(size=(2, frames, 128)).astype(np.float32)
    outputs, expected = numpy_networks.compute_outputs(path, log_mel), numpy_networks.mn(log_mel, state)
    assert expected["framewise"].shape[1] == -(-frames // 32)
    assert expected["clipwise"].std() > 0.05
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.real
def test_mn04_names_and_shapes_are_those_of_the_numpy_network():
    with TorchFile(MN04) as file:
        shapes = {name: tensor.shape for name, tensor in file.list_tensors().items()}
    assert {name: shape for name, shape in shapes.items() if "num_batches" not in name} == list_mn_shapes(0.4, 527)


def test_a_dynamic_network_is_rejected_with_its_tensors(tmp_path):
    state = make_random_state({**list_mn_shapes(0.1), "layers.0.exp_conv.weight": (8, 8)})
    with pytest.raises(
        ValueError, match=r"EfficientAT's MN at width 0\.1; received: 1 unexpected: layers\.0\.exp_conv"
    ):
        import_efficientat(write_torch_zip(tmp_path / "dymn.pt", state), tmp_path / "a.keras", labels=CLASSES)


def test_a_checkpoint_of_panns_is_rejected(tmp_path):
    state = make_random_state({"fc_audioset.weight": (5, 8), "fc_audioset.bias": (5,)})
    with pytest.raises(
        ValueError, match="must be a checkpoint of EfficientAT's MN; received: no weights of `classifier.2`"
    ):
        import_efficientat(write_torch_zip(tmp_path / "a.pth", state, "model"), tmp_path / "a.keras", labels=CLASSES)


def test_a_width_that_the_file_cannot_hold_is_rejected_before_a_network_is_built(tmp_path):
    state = make_random_state({"classifier.2.weight": (128_000, 1), "classifier.5.weight": (5, 1)})
    with pytest.raises(ValueError, match=r"EfficientAT's MN at width 100, at least 24,500,000,000 bytes; received: 5"):
        import_efficientat(write_torch_zip(tmp_path / "wide.pt", state), tmp_path / "a.keras", labels=CLASSES)
