"""A short audio file for the tests of reading."""

import pytest

from audio.signals import make_sine, write_audio


@pytest.fixture
def clip(tmp_path):
    return write_audio(tmp_path / "clip.wav", make_sine(32_000, 16_000))
