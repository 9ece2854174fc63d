"""Batches of waveforms as NumPy arrays, each a pure function of its number."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastag.data.batches import mix_up, scale
from kerastag.data.sampler import BalancedSampler


@dataclass(frozen=True)
class WaveformBatches:
    """A pack of waveforms and a sampler -> training batch i: `(waveform, target)`, float32.

    Args:
        pack: an `AudioPack`, or several joined.
        sampler: which rows of `rows` make up a batch.
        rows: row numbers of the pack that may be drawn, or None for all.
        samples: length of a random crop, at least 1; None takes stored clips whole. A crop begins anywhere from which
            it does not reach beyond the sound; what is shorter than it ends in zeros.
        mixup: alpha of the Beta distribution of mixup, 0 for none: `x = l x1 + (1 - l) x2`, the same for targets.

    Raises:
        ValueError: `samples` is below 1, or `mixup` negative.
    """

    pack: Any
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    samples: int | None = None
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"`samples` must be at least 1, received {self.samples}")
        if self.mixup < 0:
            raise ValueError(f"`mixup` must not be negative, received {self.mixup}")

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The number of a batch -> `(batch, samples)` and `(batch, classes)`."""
        clips = self.sampler.batch(index)
        clips = clips if self.rows is None else self.rows[clips]
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.sampler.seed, 303, index))))
        samples = self.pack.x_shape[1] if self.samples is None else self.samples
        lengths = self.pack.lengths[clips].astype(np.int64)
        starts = (random.random(len(clips)) * (np.maximum(0, lengths - samples) + 1)).astype(np.int64)
        waveform = scale(self.pack.crops(clips, starts, samples), lengths - starts)
        target = self.pack.targets[clips].astype(np.float32)
        return mix_up(waveform, target, self.mixup, random) if self.mixup else (waveform, target)
