"""TFLite files and SavedModels of every system of the registry, compared with Keras."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, make_card, randomize

from kerastag.card import write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export import Target, Tolerance
from kerastag.export.inputs import make_probes
from kerastag.export.parity import predict_reference
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.saved_model import load_saved_model, write_saved_model
from kerastag.export.source import SourceModel
from kerastag.export.tflite import convert_model
from kerastag.models import MODELS

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
SECONDS = 1.2
WIDTHS = {"resnet38": 1 / 64, "mn": 0.1, "talnet": 1 / 32, "vggish": 1 / 64}


def group_systems() -> dict[str, list[str]]:
    """Group the systems by input; those of a group are converted together, because conversion takes most time."""
    groups: dict[str, list[str]] = {}
    for name, entry in MODELS.items():
        kind = "embedding" if entry.front_end is None else entry.front_end
        # A system of two streams has two backbones and a selection of sub-clips: one of them covers the selection.
        if not name.startswith("gl_at") or name == "gl_at_cnn10":
            groups.setdefault(f"gl_at {kind}" if name.startswith("gl_at") else kind, []).append(name)
    return groups


def build_small(name: str) -> keras.Model:
    entry = MODELS[name]
    if entry.front_end is None:
        return entry.build(num_classes=len(CLASSES), units=8)
    if name.startswith("gl_at"):
        return entry.build(num_classes=len(CLASSES), width=1 / 32, num_sub_clips=2, sub_clip_seconds=0.5)
    return entry.build(num_classes=len(CLASSES), width=WIDTHS.get(name, 1 / 32))


def join_models(names: list[str]) -> keras.Model:
    """Join systems of one input in one model with all their outputs, called `NAME_clipwise` and so on."""
    models = {name: randomize(build_small(name)) for name in names}
    models = {name: keras.Model(model.input, model.output, name=name) for name, model in models.items()}
    first = models[names[0]].inputs[0]
    inputs = keras.Input(first.shape[1:], name=first.name)
    outputs = {
        f"{name}_{output}": value
        for name, model in models.items()
        for output, value in model(inputs).items()
        if output in ("clipwise", "framewise")
    }
    return keras.Model(inputs, outputs, name="joined")


def prepare(kind: str, names: list[str]) -> PreparedModel:
    model = join_models(names)
    if kind == "embedding":
        card, input_name = make_card("vggish", 9.6, 0.96, None), "embedding"
    else:
        card, input_name = make_card(kind.split()[-1], SECONDS, 0.96, None), "waveform"
    target = Target(name="joined", input=input_name, outputs=tuple(model.output))
    return prepare_model(SourceModel(model, card, Path("joined.keras")), target)


def test_every_system_is_in_a_group() -> None:
    tested = {name for names in group_systems().values() for name in names}
    others = MODELS.keys() - tested
    assert all(name.startswith("gl_at_") and name.removeprefix("gl_at_") in tested for name in others)
    assert len(tested) >= 22


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param(kind, names, marks=() if kind == "vggish" else pytest.mark.slow, id=kind)
        for kind, names in group_systems().items()
    ],
)
def test_every_system_predicts_in_either_format_what_keras_predicts(
    kind: str, names: list[str], tmp_path: Path
) -> None:
    prepared = prepare(kind, names)
    tflite, folder = tmp_path / "joined.tflite", tmp_path / "1"
    tflite.write_bytes(convert_model(prepared))
    write_card(tflite, prepared.card)
    write_saved_model(prepared, folder)
    runs: dict[str, Any] = {"tflite": LiteRTModel(tflite), "saved_model": load_saved_model(folder, prepared.input_name)}
    tolerance = Tolerance()
    for probe, inputs in make_probes(prepared).items():
        expected = predict_reference(prepared, inputs)
        assert all(np.isfinite(value).all() for value in expected.values())
        for name, run in runs.items():
            actual = run(inputs)
            for output, value in expected.items():
                limit = tolerance.get_limit(output.rsplit("_", 1)[1], prepared.input_name == "waveform")
                message = f"{output} in {name} on {probe}"
                np.testing.assert_allclose(actual[output], value, rtol=0, atol=limit, err_msg=message)
