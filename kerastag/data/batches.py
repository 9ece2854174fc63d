"""Batches as NumPy arrays, each a pure function of its number: what every pipeline hands to training."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kerastag.data.sampler import BalancedSampler


class Batches(Protocol):
    """Anything that makes batch i: inputs and targets."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


def scale(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Stored embeddings `(batch, segments, features)` or waveforms `(batch, samples)` -> float32, padding zero.

    8-bit embeddings become `(x - 128) / 128`, in [-1, 1); 16-bit waveforms `x / 32767`; floats are taken as they are.
    Segments or samples from `lengths` on are set to zero, which models of embeddings read as padding.

    >>> scale(np.full((1, 2, 1), 192, np.uint8), np.array([1])).ravel().tolist()
    [0.5, 0.0]
    """
    scaled = x.astype(np.float32)
    if x.dtype == np.uint8:
        scaled -= 128
        scaled *= np.float32(1 / 128)
    elif x.dtype == np.int16:
        scaled *= np.float32(1 / 32_767)
    short = np.flatnonzero(lengths < x.shape[1])
    for row in short:
        scaled[row, lengths[row] :] = 0
    return scaled


def mix_up(
    x: np.ndarray, target: np.ndarray, alpha: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A batch -> each clip and its target mixed with one of the batch: `l x1 + (1 - l) x2`, l from Beta(alpha, alpha).

    >>> x, target = mix_up(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1.0, np.random.default_rng(0))
    >>> bool((x == target).all()), x.sum(axis=1).round(5).tolist()
    (True, [1.0, 1.0, 1.0])
    """
    share = random.beta(alpha, alpha, len(x)).astype(np.float32)
    other = random.permutation(len(x))
    of_x = share.reshape(-1, *[1] * (x.ndim - 1))
    mixed = of_x * x + (1 - of_x) * x[other]
    return mixed, share[:, None] * target + (1 - share)[:, None] * target[other]


@dataclass(frozen=True)
class EmbeddingBatches:
    """A pack and a sampler -> training batch i: `(embedding, target)`, float32.

    Args:
        pack: a `FeaturePack`, or several joined.
        sampler: which rows of `rows` make up a batch.
        rows: row numbers of the pack that may be drawn, or None for all.
        single_segments: one random valid segment of each clip instead of the clip (segment-based training, eq. 1).
        mixup: alpha of the Beta distribution of mixup, 0 for none: `x = l x1 + (1 - l) x2`, the same for targets,
            each clip mixed with one of the batch.

    Raises:
        ValueError: `mixup` is negative.
    """

    pack: Any
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    single_segments: bool = False
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.mixup < 0:
            raise ValueError(f"`mixup` must not be negative, received {self.mixup}")

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The number of a batch -> `(batch, segments, features)` and `(batch, classes)`."""
        clips = self.sampler.batch(index)
        stored, num_segments, targets = self.pack.rows(clips if self.rows is None else self.rows[clips])
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.sampler.seed, 202, index))))
        if self.single_segments:
            chosen = (random.random(len(stored)) * num_segments).astype(np.int64)
            stored = stored[np.arange(len(stored)), chosen][:, None]
            num_segments = np.ones(len(stored), np.int64)
        embedding, target = scale(stored, num_segments), targets.astype(np.float32)
        if self.mixup:
            embedding, target = mix_up(embedding, target, self.mixup, random)
        return embedding, target
