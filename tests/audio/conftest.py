"""The file that most tests of reading begin with."""

import pytest

from audio.signals import sine, write


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "clip.wav", sine(32_000, 16_000))
