"""Synthetic background that is like a class is found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerastag.custom.background import find_similar_background
from kerastag.custom.clips import Clips
from kerastag.data.audio_lists import Recording

SYNTHETIC = (np.zeros(8000, np.float32),) * 3
RECORDINGS = tuple(Recording(Path(f"{i}.wav"), f"{i}.wav", (0,)) for i in range(8))
# Two classes around two directions; the synthetic clips: one like the first class, two elsewhere.
CENTERS = 5 * np.eye(6)[[0] * 4 + [1] * 4 + [0, 2, 3]]
EMBEDDINGS = (CENTERS + 0.3 * np.random.default_rng(0).normal(size=CENTERS.shape)).astype(np.float32)


@pytest.fixture
def clips():
    targets = np.zeros((11, 3), bool)
    targets[:4, 0] = targets[4:8, 1] = targets[8:, 2] = True
    folds = np.array([0, 1, 0, 1] * 2 + [-1] * 3)
    names = ("hum", "bark", "background")
    return Clips("sounds", (), names, (*RECORDINGS, *SYNTHETIC), targets, folds, np.ones_like(targets))


def test_only_synthetic_clips_that_are_like_a_class_are_found(clips):
    assert np.flatnonzero(find_similar_background(clips, EMBEDDINGS)).tolist() == [8]


def test_recordings_of_background_are_never_found(clips):
    recorded = replace(clips, audio=(*RECORDINGS, *RECORDINGS[:3]))
    assert not find_similar_background(recorded, EMBEDDINGS).any()


def test_a_class_named_background_or_with_one_recording_is_not_compared(clips):
    as_background = replace(clips, class_names=("background", "bark", "other"))
    assert not find_similar_background(as_background, EMBEDDINGS).any()
    targets = clips.targets.copy()
    targets[1:4, 0] = False
    assert not find_similar_background(replace(clips, targets=targets), EMBEDDINGS).any()
