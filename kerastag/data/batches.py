"""Batches of embeddings as NumPy arrays, each a pure function of its number: what every pipeline hands to training."""

from dataclasses import dataclass

import numpy as np

from kerastag.data.pack import FeaturePack
from kerastag.data.sampler import BalancedSampler


def scale(x: np.ndarray, num_segments: np.ndarray) -> np.ndarray:
    """Stored embeddings `(batch, segments, features)` -> float32, padding zero.

    8-bit embeddings become `(x - 128) / 128`, in [-1, 1); float ones are taken as they are. Segments from
    `num_segments` on are set to zero, which models read as padding.

    >>> scale(np.full((1, 2, 1), 192, np.uint8), np.array([1])).ravel().tolist()
    [0.5, 0.0]
    """
    scaled = x.astype(np.float32)
    if x.dtype == np.uint8:
        scaled -= 128
        scaled *= np.float32(1 / 128)
    short = np.flatnonzero(num_segments < x.shape[1])
    for row in short:
        scaled[row, num_segments[row] :] = 0
    return scaled


@dataclass(frozen=True)
class EmbeddingBatches:
    """A pack and a sampler -> training batch i: `(embedding, target)`, float32.

    Args:
        pack: where the clips are.
        sampler: which rows of `rows` make up a batch.
        rows: row numbers of the pack that may be drawn, or None for all.
        single_segments: one random valid segment of each clip instead of the clip (segment-based training, eq. 1).
        mixup: alpha of the Beta distribution of mixup, 0 for none: `x = l x1 + (1 - l) x2`, the same for targets,
            each clip mixed with one of the batch.

    Raises:
        ValueError: `mixup` is negative.
    """

    pack: FeaturePack
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
            share = random.beta(self.mixup, self.mixup, len(stored)).astype(np.float32)
            other = random.permutation(len(stored))
            embedding = share[:, None, None] * embedding + (1 - share)[:, None, None] * embedding[other]
            target = share[:, None] * target + (1 - share)[:, None] * target[other]
        return embedding, target
