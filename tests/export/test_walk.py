"""Every system of the registry becomes a TFLite file and a SavedModel that say what Keras says."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, card_of, trained

from kerastag.card import write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export import parity, probes
from kerastag.export.saved_model import runner, write_saved_model
from kerastag.export.serving import Served, serve
from kerastag.export.source import Source
from kerastag.export.target import Target, Tolerance
from kerastag.export.tflite import convert
from kerastag.models import MODELS

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
SECONDS = 1.2
WIDTHS = {"resnet38": 1 / 64, "mn": 0.1, "talnet": 1 / 32, "vggish": 1 / 64}


def groups() -> dict[str, list[str]]:
    """Input -> the systems that take it; those of one group are converted at once, which is most of the time."""
    found: dict[str, list[str]] = {}
    for name, entry in MODELS.items():
        kind = "embedding" if entry.front_end is None else entry.front_end
        # Two streams are two backbones and a selection between: one of them shows the selection.
        if not name.startswith("gl_at") or name == "gl_at_cnn10":
            found.setdefault(f"gl_at {kind}" if name.startswith("gl_at") else kind, []).append(name)
    return found


def small(name: str) -> keras.Model:
    entry = MODELS[name]
    if entry.front_end is None:
        return entry.build(num_classes=len(CLASSES), units=8)
    if name.startswith("gl_at"):
        return entry.build(num_classes=len(CLASSES), width=1 / 32, num_sub_clips=2, sub_clip_seconds=0.5)
    return entry.build(num_classes=len(CLASSES), width=WIDTHS.get(name, 1 / 32))


def joined(names: list[str]) -> keras.Model:
    """Models of one input -> one model with all their outputs, `NAME clipwise` and so on."""
    models = {name: trained(small(name)) for name in names}
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


def served(kind: str, names: list[str]) -> Served:
    model = joined(names)
    hears = kind != "embedding"
    front_end = kind.split()[-1] if hears else "vggish"
    card = card_of(front_end, SECONDS if hears else 9.6, 0.96, None)
    target = Target(name="walk", input="waveform" if hears else "embedding", outputs=tuple(model.output))
    return serve(Source(model, card, Path("joined.keras")), target)


def test_the_walk_leaves_nothing_out() -> None:
    walked = {name for names in groups().values() for name in names}
    left_out = MODELS.keys() - walked
    assert all(name.startswith("gl_at_") and name.removeprefix("gl_at_") in walked for name in left_out)
    assert len(walked) >= 22


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param(kind, names, marks=() if kind in ("talnet", "vggish") else pytest.mark.slow, id=kind)
        for kind, names in groups().items()
    ],
)
def test_every_system_says_in_either_format_what_keras_says(kind: str, names: list[str], tmp_path: Path) -> None:
    made = served(kind, names)
    tflite, folder = tmp_path / "joined.tflite", tmp_path / "1"
    tflite.write_bytes(convert(made))
    write_card(tflite, made.card)
    write_saved_model(made, folder)
    runs: dict[str, Any] = {"tflite": LiteRTModel(tflite), "saved_model": runner(folder, made)}
    tolerance = Tolerance()
    for probe, given in probes.inputs(made).items():
        expected = parity.reference(made, given)
        assert all(np.isfinite(value).all() for value in expected.values())
        for name, run in runs.items():
            actual = run(given)
            for output, wanted in expected.items():
                allowed = tolerance.of(output.rsplit("_", 1)[1], made.input == "waveform")
                np.testing.assert_allclose(
                    actual[output], wanted, rtol=0, atol=allowed, err_msg=f"{output} in {name} on {probe}"
                )
