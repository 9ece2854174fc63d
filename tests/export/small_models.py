"""Models that are small enough to be converted in a second, as files with their cards."""

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


def randomize(model: Any) -> Any:
    """Assign weights and statistics as after training, so that probabilities are neither equal nor all 0 or 1."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = np.asarray(weight.value)
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, value.shape))
        elif value.ndim == 1:
            weight.assign(value + 0.1 * rng.standard_normal(value.shape))
    return model


def build_model(name: str, seed: int = 0, **arguments: Any) -> Any:
    """Build a model of the registry with weights as after training, the same each time."""
    import keras

    from kerastag.models import MODELS

    keras.utils.set_random_seed(seed)
    return randomize(MODELS[name].build(num_classes=len(CLASSES), **arguments))


def make_card(front_end: str, window_seconds: float, seconds_per_frame: float, labels: Any = CLASSES) -> Card:
    rate, constants = FRONT_ENDS[front_end].sample_rate, FRONT_ENDS[front_end].as_dict()
    return Card(labels, rate, window_seconds, seconds_per_frame, constants, origin="a test")


def save_model(model: Any, card: Card, path: Path) -> Path:
    model.save(path)
    write_card(path, card)
    return path


def skip_usage(patch: pytest.MonkeyPatch) -> None:
    """Skip the measurement of time and memory in a new process, which test_export.py does once."""
    from kerastag.export import parity
    from kerastag.export.device import Usage

    patch.setattr(parity, "measure_usage", lambda path, threads: Usage(1.0, 2.0))


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an attention head over 10 segments of 128 features."""
    model = build_model("feature_attention", units=96, depth=2)
    return save_model(model, make_card("vggish", 9.6, 0.96), tmp_path_factory.mktemp("models") / "attention.keras")


@pytest.fixture(scope="session")
def tagger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tagger of waveforms of one second."""
    model = build_model("cnn10", width=1 / 16, input="waveform")
    return save_model(model, make_card("panns", 1.0, 0.16), tmp_path_factory.mktemp("models") / "tagger.keras")


@pytest.fixture(scope="session")
def embedding_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an evaluation pack of forty clips with random embeddings and labels."""
    from kerastag.data.feature_pack_writer import FeaturePackWriter

    rng = np.random.default_rng(0)
    targets = rng.random((40, len(CLASSES))) < 0.3
    targets[:2] = [[True] * len(CLASSES), [False] * len(CLASSES)]
    x = rng.integers(0, 256, (40, 10, 128)).astype(np.uint8)
    folder = tmp_path_factory.mktemp("packs")
    with FeaturePackWriter(folder / "eval.h5", num_classes=len(CLASSES), num_segments=10, num_features=128) as writer:
        writer.append(x, [10] * 38 + [3, 7], targets, [b"clip%d" % index for index in range(40)])
        writer.finish()
    return folder
