"""What the page plays and shows of a part of a recording."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

from kerastag.card import Card
from kerastag.data.audio_lists import Recording
from kerastag.serving.overview import OverviewBuilder

__all__ = ["describe_part", "encode_part"]

MAX_SECONDS = 30.0
"""Longest duration that is played; the rest of a long clip is not."""
_PEAK, _MAX_GAIN = 0.7, 30.0
_NUM_COLUMNS = 1_024


def encode_part(part: Recording, sample_rate: int, channel: str | int = "mean") -> bytes:
    """Encode a part of a recording as a WAV file, in which a quiet one is louder, by a factor of at most 30.

    Raises:
        ValueError: The file is not audio, or is damaged.
        OSError: The file cannot be read.
    """
    waveform = part.load_waveform(sample_rate, MAX_SECONDS, channel)
    peak = float(np.abs(waveform).max(initial=0.0))
    gain = min(_PEAK / peak, _MAX_GAIN) if 0 < peak < _PEAK else 1.0
    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(gain * waveform, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return encoded.getvalue()


def describe_part(part: Recording, card: Card, channel: str | int = "mean") -> dict[str, Any]:
    """Describe a part of a recording for a picture, in the form of the answer of `POST /v1/tag` with `overview`.

    Raises:
        ValueError: The file is not audio, or is damaged.
        OSError: The file cannot be read.
    """
    builder = OverviewBuilder(card, _NUM_COLUMNS)
    num_samples = sum(map(len, builder.tap(part.read_blocks(card.sample_rate, MAX_SECONDS, channel))))
    duration = num_samples / card.sample_rate
    return {"file": part.name, "duration_seconds": duration, "tags": [], "overview": builder.build()}
