"""Training batches as NumPy arrays, each a pure function of the seed of its sampler and its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kerastag.data.sampler import BalancedSampler
from kerastag.rng import Purpose, generator

__all__ = ["Batches", "EmbeddingBatches", "WaveformBatches", "mix_up", "scale"]


class Batches(Protocol):
    """Anything with a method `batch(index)` that returns the inputs and targets of a batch."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


class EmbeddingSource(Protocol):
    """Clips that `EmbeddingBatches` reads: a pack of embeddings, or anything else with this method."""

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class WaveformSource(Protocol):
    """Clips that `WaveformBatches` reads: a pack of waveforms, or anything else with these attributes."""

    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def targets(self) -> np.ndarray: ...
    @property
    def x_shape(self) -> tuple[int, ...]: ...
    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray: ...


def scale(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Convert stored embeddings or waveforms to float32 and set their padding to zero.

    8-bit embeddings become `(x - 128) / 128`, in [-1, 1), and 16-bit waveforms `x / 32767`; floats stay as they are.
    Models of embeddings mask segments that are zero.

    Args:
        x: Embeddings `(batch, segments, features)` or waveforms `(batch, samples)` as they are stored in a pack.
        lengths: Number of valid segments or samples, int `(batch,)`.

    Returns:
        Array of the shape of `x`, float32.

    >>> from kerastag.data import scale
    >>> scale(np.full((1, 2, 1), 192, np.uint8), np.array([1])).ravel().tolist()
    [0.5, 0.0]
    """
    scaled = x.astype(np.float32)
    if x.dtype == np.uint8:
        scaled -= 128
        scaled *= np.float32(1 / 128)
    elif x.dtype == np.int16:
        scaled *= np.float32(1 / 32_767)
    for row in np.flatnonzero(lengths < x.shape[1]):
        scaled[row, lengths[row] :] = 0
    return scaled


def mix_up(
    x: np.ndarray, target: np.ndarray, alpha: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mix every clip of a batch and its target with a random one of the batch.

    `x = l x1 + (1 - l) x2`, the same for the targets, with `l` from Beta(alpha, alpha) for every clip.

    Args:
        x: Inputs, float32 `(batch, ...)`.
        target: Targets, float32 `(batch, classes)`.
        alpha: Parameter of the Beta distribution, above 0.
        random: Generator of the batch.

    Returns:
        Mixed inputs and targets.

    >>> x, target = mix_up(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1.0, np.random.default_rng(0))
    >>> bool((x == target).all()), x.sum(axis=1).round(5).tolist()
    (True, [1.0, 1.0, 1.0])

    Reference:
        Zhang et al., 2018, mixup: beyond empirical risk minimization.
    """
    share = random.beta(alpha, alpha, len(x)).astype(np.float32)
    other = random.permutation(len(x))
    share_of_x = share.reshape(-1, *[1] * (x.ndim - 1))
    mixed = share_of_x * x + (1 - share_of_x) * x[other]
    return mixed, share[:, None] * target + (1 - share)[:, None] * target[other]


@dataclass(frozen=True)
class EmbeddingBatches:
    """Training batches of embeddings from a pack.

    Args:
        pack: A `FeaturePack`, or several as `ConcatenatedPacks`.
        sampler: Sampler over `rows`.
        rows: Row numbers of the pack that may be drawn, int `(rows,)`, or None for all.
        single_segments: Whether to train on one random valid segment of every clip instead of the clip
            (segment-based training, eq. 1 of Kong et al., 2019).
        mixup: Parameter alpha of `mix_up`, 0 for none.

    Raises:
        ValueError: `mixup` is negative.

    >>> import tempfile
    >>> from kerastag.data import BalancedSampler, EmbeddingBatches, open_pack, write_synthetic_packs
    >>> pack = open_pack(write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_classes=4)["bal_train"])
    >>> batches = EmbeddingBatches(pack, BalancedSampler(pack.targets, batch_size=8))
    >>> [array.shape for array in batches.batch(3)]
    [(8, 10, 128), (8, 4)]
    """

    pack: EmbeddingSource
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    single_segments: bool = False
    mixup: float = 0.0

    def __post_init__(self) -> None:
        _check_mixup(self.mixup)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: embeddings `(batch, segments, features)` and targets `(batch, classes)`, float32."""
        clips = self.sampler.batch(index)
        x, num_segments, targets = self.pack.rows(clips if self.rows is None else self.rows[clips])
        random = generator(self.sampler.seed, Purpose.EMBEDDING_BATCH, index)
        if self.single_segments:
            segments = (random.random(len(x)) * num_segments).astype(np.int64)
            x = x[np.arange(len(x)), segments][:, None]
            num_segments = np.ones(len(x), np.int64)
        embedding, target = scale(x, num_segments), targets.astype(np.float32)
        return mix_up(embedding, target, self.mixup, random) if self.mixup else (embedding, target)


@dataclass(frozen=True)
class WaveformBatches:
    """Training batches of waveforms from a pack.

    Args:
        pack: An `AudioPack`, or several as `ConcatenatedPacks`.
        sampler: Sampler over `rows`.
        rows: Row numbers of the pack that may be drawn, int `(rows,)`, or None for all.
        samples: Length of a random crop, samples, at least 1; None takes whole clips. A crop lies inside the valid
            samples of its clip; a clip shorter than the crop is padded with zeros.
        mixup: Parameter alpha of `mix_up`, 0 for none.

    Raises:
        ValueError: `samples` is below 1, or `mixup` is negative.
    """

    pack: WaveformSource
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    samples: int | None = None
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"`samples` must be at least 1; received: {self.samples}")
        _check_mixup(self.mixup)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: waveforms `(batch, samples)` and targets `(batch, classes)`, float32."""
        clips = self.sampler.batch(index)
        clips = clips if self.rows is None else self.rows[clips]
        random = generator(self.sampler.seed, Purpose.WAVEFORM_BATCH, index)
        samples = self.pack.x_shape[1] if self.samples is None else self.samples
        lengths = self.pack.lengths[clips].astype(np.int64)
        starts = (random.random(len(clips)) * (np.maximum(0, lengths - samples) + 1)).astype(np.int64)
        waveform = scale(self.pack.crops(clips, starts, samples), lengths - starts)
        target = self.pack.targets[clips].astype(np.float32)
        return mix_up(waveform, target, self.mixup, random) if self.mixup else (waveform, target)


def _check_mixup(mixup: float) -> None:
    if mixup < 0:
        raise ValueError(f"`mixup` must be at least 0; received: {mixup}")
