"""Files of the current converter, run by tflite-runtime 2.14 in the old environment of `make test-legacy`."""

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from kerastag.card import Card, write_card
from kerastag.edge import runtime

FOLDER = Path(os.environ.get("KERASTAG_LEGACY_MODELS", ""))
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("tflite_runtime") is None, reason="needs tflite-runtime (Python 3.11)"),
    pytest.mark.skipif(
        not os.environ.get("KERASTAG_LEGACY_MODELS"), reason="needs the files that `make test-legacy` writes"
    ),
]


@pytest.mark.parametrize("name", ["feature_attention", "cnn10"])
def test_the_old_interpreter_predicts_what_keras_predicts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "INTERPRETER_MODULES", ("tflite_runtime.interpreter",))
    model = runtime.LiteRTModel(FOLDER / f"{name}.tflite", 1)
    with np.load(FOLDER / f"{name}.npz") as arrays:
        inputs, expected = arrays["inputs"], arrays["clipwise"]
    actual = model(inputs)["clipwise"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.003)
    assert expected.std(axis=0).max() > 5 * 0.003, "the tolerance must be small compared with the variation"


def test_the_old_interpreter_refuses_a_file_that_it_would_compute_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "INTERPRETER_MODULES", ("tflite_runtime.interpreter",))
    path = tmp_path / "new.tflite"
    path.write_bytes((FOLDER / "feature_attention.tflite").read_bytes())
    card = Card.read(path)
    write_card(path, dataclasses.replace(card, versions={**card.versions, runtime.INTERPRETER_KEY: "ai_edge_litert"}))
    with pytest.raises(ValueError, match=r"new.tflite: must be run by ai_edge_litert; received: tflite_runtime"):
        runtime.LiteRTModel(path)
