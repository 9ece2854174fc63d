"""Clips in memory, which batches are drawn from like from packs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Bags", "Waveforms"]


@dataclass(frozen=True, eq=False)
class Bags:
    """Bags of embeddings.

    Attributes:
        x: Embeddings, float32 `(clips, segments, features)`, with zeros after the last segment of a clip.
        lengths: Number of segments of every clip, int `(clips,)`.
        targets: Labels, bool `(clips, classes)`.
    """

    x: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return embeddings, numbers of segments and labels of the clips of these row numbers."""
        return self.x[indices], self.lengths[indices], self.targets[indices]


@dataclass(frozen=True, eq=False)
class Waveforms:
    """Waveforms of any length.

    Attributes:
        waveforms: One array of samples per clip, float32.
        targets: Labels, bool `(clips, classes)`.
    """

    waveforms: Sequence[np.ndarray]
    targets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Number of samples of every clip, int `(clips,)`."""
        return np.array([len(waveform) for waveform in self.waveforms])

    @property
    def x_shape(self) -> tuple[int, int]:
        """Number of clips, and number of samples of the longest one."""
        return len(self.waveforms), int(self.lengths.max())

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Return parts of clips, float32 `(batch, samples)`, with zeros after the end of a clip.

        Args:
            indices: Row numbers.
            starts: First sample of each crop.
            samples: Length of the crops, samples.
        """
        crops = np.zeros((len(indices), samples), np.float32)
        for crop, index, start in zip(crops, indices, starts, strict=True):
            part = self.waveforms[index][start : start + samples]
            crop[: len(part)] = part
        return crops
