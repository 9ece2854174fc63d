"""The bundled model: its size, card and license, and its predictions."""

import importlib.util

import numpy as np
import pytest
from sounds import create_cries, create_rain

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
    assert path.stat().st_size <= 2_500_000
    card = Card.read(path)
    assert card.labels is not None
    assert set(card.labels.names) == set(CLASSES)
    assert "ESC-10" in card.origin
    assert card.thresholds_origin != "default"
    description = path.with_name("README.md").read_text(encoding="utf-8")
    assert all(name in description for name in CLASSES)
    assert "CC BY 3.0" in description


def find_claims(tagger, recording, **arguments):
    """Find the names of the classes that reach their threshold in a recording."""
    probabilities = tagger.predict(recording, **arguments)
    reached = probabilities >= np.array(tagger.card.thresholds)
    return {name for name, is_reached in zip(tagger.card.labels.names, reached, strict=True) if is_reached}


@needs_interpreter
@pytest.mark.parametrize(("create_sound", "name"), [(create_cries, "Baby cry"), (create_rain, "Rain")])
def test_sounds_of_a_class_are_claimed_to_be_of_this_class_alone(create_sound, name):
    sound = create_sound(4, 16_000)
    waveform = np.pad(sound, (16_000, 9 * 16_000 - len(sound)))
    assert find_claims(Tagger.load(BUNDLED_MODEL), waveform, sample_rate=16_000) == {name}


OTHER_SOUNDS = {
    "silence": lambda times, rng: np.zeros_like(times),
    "faint hiss": lambda times, rng: 0.003 * rng.standard_normal(len(times)),
    "hiss": lambda times, rng: 0.1 * rng.standard_normal(len(times)),
    "rumble": lambda times, rng: 0.1 * np.convolve(rng.standard_normal(len(times)), np.ones(400) / 20, "same"),
    "tone": lambda times, rng: 0.3 * np.sin(2 * np.pi * 1_000 * times),
    "high tone": lambda times, rng: 0.1 * np.sin(2 * np.pi * 6_000 * times),
    "hum": lambda times, rng: sum(0.2 / k * np.sin(2 * np.pi * 50 * k * times) for k in range(1, 9)),
    "hum at 60 Hz": lambda times, rng: sum(0.2 / k * np.sin(2 * np.pi * 60 * k * times) for k in (1, 2, 4, 6)),
    "beeps": lambda times, rng: 0.3 * np.sin(2 * np.pi * 880 * times) * (times % 1 < 0.3),
    "offset": lambda times, rng: np.full_like(times, 0.2),
}


@needs_interpreter
@pytest.mark.parametrize("name", OTHER_SOUNDS)
def test_nothing_is_claimed_of_other_sounds(name):
    times, rng = np.arange(10 * 32_000) / 32_000, np.random.default_rng(0)
    waveform = OTHER_SOUNDS[name](times, rng).astype(np.float32)
    assert not find_claims(Tagger.load(BUNDLED_MODEL), waveform, sample_rate=32_000)


@needs_interpreter
@pytest.mark.real
@pytest.mark.parametrize("name", ["speech.wav", "music.wav", "typing.wav", "R9_ZSCveAHg_7s.wav"])
def test_nothing_is_claimed_of_speech_music_typing_and_a_telephone(name):
    assert not find_claims(Tagger.load(BUNDLED_MODEL), SHARED / "data" / "audio" / name)


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
