"""Sizes, weights and cards of the small models of these tests, and a function that waits."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet

LABELS = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark", "Rain", "Speech"))
FRONT_END = FRONT_ENDS["vggish"]  # the fastest one: 16 kHz, 64 bands, 100 frames per second
WINDOW_FRAMES, FRAMES_PER_OUTPUT = 100, 8  # 12 and a half output frames
SEGMENT_FRAMES, FEATURES = 24, 5
WAVEFORM_SAMPLES = 16_000
CONVERTED: dict[str, Path] = {}  # By name; here, since the tests of the command line load `conftest.py` again.


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random weights, so that the output depends on every input."""
    scale = 1 / np.sqrt(np.prod(shape[:-1]))
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def card(**fields: Any) -> Card:
    """Return a card with the classes and the front end of the small models."""
    front_end = FRONT_END.as_dict()
    return Card(**{"labels": LABELS, "sample_rate": 16_000, "window_seconds": 1.0, "front_end": front_end, **fields})


def copy_with_card(model: Path, folder: Path, **fields: Any) -> Path:
    """Copy a file with another card."""
    path = folder / model.name
    path.write_bytes(model.read_bytes())
    write_card(path, card(**fields))
    return path


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait until a condition is true, and fail if it is not true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition must become true in time"
        time.sleep(0.01)
