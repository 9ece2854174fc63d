"""Models small enough to be converted in a moment, as files with their cards."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet

CLASSES = LabelSet.from_names(["Bark", "Rain", "Speech", "Siren", "Wind"])
needs_quantizer = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None, reason="needs ai-edge-quantizer (extra `export`)"
)


def trained(model: Any) -> Any:
    """Weights and statistics as after training, so that probabilities are neither all equal nor all 0 or 1."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = np.asarray(weight.value)
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, value.shape))
        elif value.ndim == 1:
            weight.assign(value + 0.1 * rng.standard_normal(value.shape))
    return model


def built(name: str, seed: int = 0, **settings: Any) -> Any:
    """A system of the registry, the same each time, as after training."""
    import keras

    from kerastag.models import MODELS

    keras.utils.set_random_seed(seed)
    return trained(MODELS[name].build(num_classes=len(CLASSES), **settings))


def card_of(front_end: str, window_seconds: float, seconds_per_frame: float, labels: Any = CLASSES) -> Card:
    rate, constants = FRONT_ENDS[front_end].sample_rate, FRONT_ENDS[front_end].as_dict()
    return Card(labels, rate, window_seconds, seconds_per_frame, constants, origin="made in a test")


def saved(model: Any, card: Card, path: Path) -> Path:
    model.save(path)
    write_card(path, card)
    return path


def without_measuring(patch: pytest.MonkeyPatch) -> None:
    """Exports need no process of their own: time and memory are measured once, in test_export.py."""
    from kerastag.export import parity

    patch.setattr(parity, "measure_use", lambda path, threads: parity.Use(1.0, 2.0))


def exported_unmeasured(model: Path, target: str, output: Path) -> Path:
    """A model and the name of a target -> the exported file or folder."""
    from kerastag.export.export import export
    from kerastag.export.target import read_target

    with pytest.MonkeyPatch.context() as patch:
        without_measuring(patch)
        export(model, read_target(target), output)
    return output


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings -> tags: attention over 10 segments of 128 features."""
    model = built("feature_attention", units=96, depth=2)
    return saved(model, card_of("vggish", 9.6, 0.96), tmp_path_factory.mktemp("models") / "attention.keras")


@pytest.fixture(scope="session")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waveform of a second -> tags."""
    model = built("cnn10", width=1 / 16, input="waveform")
    return saved(model, card_of("panns", 1.0, 0.16), tmp_path_factory.mktemp("models") / "hearing.keras")


@pytest.fixture(scope="session")
def embedding_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clips with labels that the embeddings tell."""
    from kerastag.data.pack import PackWriter

    rng = np.random.default_rng(0)
    targets = rng.random((40, len(CLASSES))) < 0.3
    targets[:2] = [[True] * len(CLASSES), [False] * len(CLASSES)]
    x = rng.integers(0, 256, (40, 10, 128)).astype(np.uint8)
    folder = tmp_path_factory.mktemp("packs")
    with PackWriter(folder / "eval.h5", num_classes=len(CLASSES), segments=10, features=128) as writer:
        writer.append(x, [10] * 38 + [3, 7], targets, [b"clip%d" % index for index in range(40)])
        writer.finish()
    return folder
