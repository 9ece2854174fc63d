"""The model in the box: small, whole, ours to ship, and it knows its sounds."""

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


def test_it_is_small_and_says_what_it_is():
    path = resolve_model_path(BUNDLED_MODEL)
    assert path.stat().st_size <= 1_500_000
    card = Card.read(path)
    assert card.labels is not None
    assert set(card.labels.names) == set(CLASSES)
    assert "ESC-10" in card.origin
    assert card.thresholds_origin != "default"
    beside = path.with_name("README.md").read_text()
    assert all(name in beside for name in CLASSES)
    assert "CC BY 3.0" in beside


@needs_interpreter
def test_it_hears_at_once():
    tagger = Tagger.load(BUNDLED_MODEL)
    rng = np.random.default_rng(0)
    rate = tagger.card.sample_rate
    clicks = np.zeros(10 * rate, np.float32)
    clicks[:: rate // 2] = 0.5
    for sound in (clicks, rng.uniform(-0.1, 0.1, 10 * rate).astype(np.float32)):
        probabilities = tagger.probabilities(sound, sample_rate=rate)
        assert probabilities.shape == (10,)
        assert np.ptp(probabilities) > 0.05


@needs_interpreter
@pytest.mark.real
def test_it_knows_recordings_that_it_never_heard():
    """Of fold 5: one of ten classes by chance is right one time in ten."""
    tagger = Tagger.load(BUNDLED_MODEL)
    right = [
        tagger.tag(path, top=1)[0].name == path.parent.name.split(" - ")[1]
        for path in sorted((SHARED / "data" / "esc10").glob("*/5-*.ogg"))[::2]
    ]
    assert len(right) == 40
    assert np.mean(right) > 0.5
