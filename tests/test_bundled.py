"""The bundled model: its size, card and license, and its predictions."""

import importlib.util

import numpy as np
import pytest

from checks import SHARED
from kerastag import Tagger
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card

CLASSES = "Dog bark", "Rain", "Sea waves", "Baby cry", "Clock tick"
CLASSES += "Person sneeze", "Helicopter", "Chainsaw", "Rooster", "Fire crackling"
needs_interpreter = pytest.mark.skipif(
    all(importlib.util.find_spec(name) is None for name in ("ai_edge_litert", "tflite_runtime")),
    reason="needs a LiteRT interpreter (extra `edge`)",
)


def test_the_bundled_model_is_small_and_has_a_card_and_a_description():
    path = resolve_model_path(BUNDLED_MODEL)
    assert path.stat().st_size <= 1_500_000
    card = Card.read(path)
    assert card.labels is not None
    assert set(card.labels.names) == set(CLASSES)
    assert "ESC-10" in card.origin
    assert card.thresholds_origin != "default"
    description = path.with_name("README.md").read_text(encoding="utf-8")
    assert all(name in description for name in CLASSES)
    assert "CC BY 3.0" in description


@needs_interpreter
def test_the_bundled_model_predicts_without_a_download():
    tagger = Tagger.load(BUNDLED_MODEL)
    rng = np.random.default_rng(0)
    sample_rate = tagger.card.sample_rate
    clicks = np.zeros(10 * sample_rate, np.float32)
    clicks[:: sample_rate // 2] = 0.5
    for waveform in (clicks, rng.uniform(-0.1, 0.1, 10 * sample_rate).astype(np.float32)):
        probabilities = tagger.predict(waveform, sample_rate=sample_rate)
        assert probabilities.shape == (10,)
        assert np.ptp(probabilities) > 0.05


@needs_interpreter
@pytest.mark.real
def test_most_recordings_of_the_held_out_fold_are_classified_correctly():
    """Test on fold 5, where a tenth would be correct by chance."""
    tagger = Tagger.load(BUNDLED_MODEL)
    is_correct = [
        tagger.tag(path, top=1)[0].name == path.parent.name.split(" - ")[1]
        for path in sorted((SHARED / "data" / "esc10").glob("*/5-*.ogg"))[::2]
    ]
    assert len(is_correct) == 40
    assert np.mean(is_correct) > 0.5
