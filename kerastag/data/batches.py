"""The balanced sampler, and training batches as NumPy arrays, each a pure function of the seed and its number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from kerastag.rng import Purpose, generator


class Batches(Protocol):
    """Anything with a method `batch(index)` that returns the inputs and targets of a batch."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


class BalancedSampler:
    """Sampler of batches in which every class is drawn equally often.

    In AudioSet, speech is in nearly every second clip, a toothbrush in one of ten thousand. Balanced draws visit the
    classes in shuffled cycles, each class once per cycle; a visit takes the next clip of the class, and the clips of a
    class come in shuffled rounds, each clip once per round. So the classes differ by at most one draw, and so do the
    clips of a class. A share `balance` of every batch is drawn that way, the rest from shuffled rounds of all clips.

    No state is carried from batch to batch: balanced draw number `n` belongs to cycle `n // K` of `K` classes; its
    class has been visited `n // K` times before, which gives the round and the place in it; and every shuffle has a
    generator of its own. Batch `i` is thus a pure function of the seed and `i`, also in a resumed run.

    Args:
        targets: Labels, bool `(clips, classes)`.
        batch_size: Number of clips in a batch, at least 1.
        balance: Share of a batch that is class-balanced, in [0, 1].
        seed: Seed of all shuffles, a non-negative integer.
        allow_empty_classes: Whether to skip classes without a clip instead of refusing them.
        class_names: Names of the classes for error messages, or None for their numbers.

    Attributes:
        empty_classes: Numbers of the classes without a clip.

    Raises:
        ValueError: A class has no clip, or an argument is out of range.

    >>> from kerastag.data import BalancedSampler
    >>> sampler = BalancedSampler(np.eye(3, dtype=bool)[[0, 0, 0, 0, 1, 2]], batch_size=3, seed=0)
    >>> sorted(sampler.batch(7).tolist())[1:]
    [4, 5]

    Reference:
        Kong et al., 2019, section VI-D, where the numbers of samples of the classes are approximately the same. Here
        they are the same up to one.
    """

    def __init__(
        self,
        targets: np.ndarray,
        batch_size: int,
        *,
        balance: float = 1.0,
        seed: int = 0,
        allow_empty_classes: bool = False,
        class_names: Sequence[str] | None = None,
    ) -> None:
        targets = np.asarray(targets, bool)
        if targets.ndim != 2 or not targets.size:
            raise ValueError(f"`targets` must be (clips, classes), at least one of each; received: {targets.shape}")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1; received: {batch_size}")
        if not 0 <= balance <= 1:
            raise ValueError(f"`balance` must be in [0, 1]; received: {balance}")
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0; received: {seed}")
        self.num_clips, self.num_classes = targets.shape
        self.batch_size, self.balance, self.seed = batch_size, balance, seed
        self.empty_classes = np.flatnonzero(~targets.any(axis=0))
        if balance and len(self.empty_classes) and not allow_empty_classes:
            names = [class_names[int(k)] if class_names else str(k) for k in self.empty_classes]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(
                f"`targets` must have a clip of every class; {len(names)} of {self.num_classes} classes have none: "
                f"{', '.join(names[:5])}{more}"
            )
        classes = np.setdiff1d(np.arange(self.num_classes), self.empty_classes)
        if balance and not len(classes):
            raise ValueError("`targets` must have a label; received: none")
        rows_of_class = [np.flatnonzero(targets[:, k]) for k in classes]
        self._counts = np.array([len(rows) for rows in rows_of_class], np.int64)
        self._starts = np.cumsum([0, *self._counts])
        self._rows = np.concatenate([*rows_of_class, np.empty(0, np.int64)])
        # The latest shuffles are cached. They are no state: each is a function of the seed and its own number.
        self._shuffled_rows = self._rows.copy()
        self._rounds = np.full(len(rows_of_class), -1, np.int64)
        self._orders: dict[Purpose, tuple[int, np.ndarray]] = {}

    def batch(self, index: int) -> np.ndarray:
        """Return the row numbers of batch `index`, from 0, in random order, int64 `(batch_size,)`."""
        if index < 0:
            raise ValueError(f"`index` must be at least 0; received: {index}")
        # Before batch i, floor(i * batch_size * balance) draws were balanced: the share is exact in the long run.
        first, stop = (int(np.floor((index + step) * self.batch_size * self.balance)) for step in (0, 1))
        natural_first, natural_stop = index * self.batch_size - first, (index + 1) * self.batch_size - stop
        natural = self._shuffle(Purpose.CLIP_ORDER, self.num_clips, natural_first, natural_stop)
        clips = np.concatenate([*self._draw_balanced(first, stop), *(order for _, order in natural)])
        return clips[generator(self.seed, Purpose.BATCH_ORDER, index).permutation(len(clips))]

    def _draw_balanced(self, first: int, stop: int) -> list[np.ndarray]:
        """Return the balanced draws `first` to `stop - 1`, cycle by cycle."""
        cycles = self._shuffle(Purpose.CLASS_ORDER, len(self._counts), first, stop)
        return [self._visit(classes, cycle) for cycle, classes in cycles]

    def _visit(self, classes: np.ndarray, cycle: int) -> np.ndarray:
        """Return the clip that each of these classes contributes to a cycle."""
        rounds, place = np.divmod(cycle, self._counts[classes])
        for k, number in np.stack([classes, rounds], axis=1)[rounds != self._rounds[classes]]:
            rows = slice(self._starts[k], self._starts[k + 1])
            random = generator(self.seed, Purpose.CLIPS_OF_CLASS, k, number)
            self._shuffled_rows[rows] = random.permutation(self._rows[rows])
            self._rounds[k] = number
        return self._shuffled_rows[self._starts[classes] + place]

    def _shuffle(self, purpose: Purpose, size: int, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the elements `first` to `stop - 1` of shuffled rounds of `arange(size)`, round by round."""
        while first < stop:
            number, place = divmod(first, size)
            if purpose not in self._orders or self._orders[purpose][0] != number:
                self._orders[purpose] = number, generator(self.seed, purpose, number).permutation(size)
            order = self._orders[purpose][1][place : place + stop - first]
            yield number, order
            first += len(order)


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
    share, other = draw_mixup(alpha, len(x), random)
    share_of_x = share.reshape(-1, *[1] * (x.ndim - 1))
    mixed = share_of_x * x + (1 - share_of_x) * x[other]
    return mixed, share[:, None] * target + (1 - share)[:, None] * target[other]


def draw_mixup(alpha: float, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the share of each clip of a batch in `mix_up`, and the clip that it is mixed with."""
    return random.beta(alpha, alpha, size).astype(np.float32), random.permutation(size)


def draw_parts(
    x: np.ndarray, num_segments: np.ndarray, shortest: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a random part of every clip of a batch, and move it to the start of the clip.

    Args:
        x: Embeddings `(batch, segments, features)`.
        num_segments: Number of valid segments of each clip, int `(batch,)`.
        shortest: Smallest length of a part, segments, at least 1; a clip with fewer segments is taken whole.
        random: Generator of the batch.

    Returns:
        Embeddings, of which those after the part are not valid, and the length of each part, int `(batch,)`.

    >>> x, lengths = draw_parts(np.arange(4).reshape(1, 4, 1), np.array([4]), 3, np.random.default_rng(8))
    >>> x[0, : lengths[0], 0].tolist()
    [1, 2, 3]
    """
    shortest_parts = np.minimum(shortest, num_segments)
    lengths = shortest_parts + (random.random(len(x)) * (num_segments - shortest_parts + 1)).astype(np.int64)
    starts = (random.random(len(x)) * (num_segments - lengths + 1)).astype(np.int64)
    places = np.minimum(starts[:, None] + np.arange(x.shape[1]), x.shape[1] - 1)
    return np.take_along_axis(x, places[:, :, None], axis=1), lengths


@dataclass(frozen=True)
class EmbeddingBatches:
    """Training batches of embeddings from a pack.

    Args:
        pack: A `FeaturePack`, several as `ConcatenatedPacks`, or another object with their method `rows`.
        sampler: Sampler over `rows`.
        rows: Row numbers of the pack that may be drawn, int `(rows,)`, or None for all.
        single_segments: Whether to train on one random valid segment of every clip instead of the clip
            (segment-based training, eq. 1 of Kong et al., 2019).
        mixup: Parameter alpha of `mix_up`, 0 for none.
        min_segments: Smallest number of segments, at least 1, of a random part of every clip, whose length and
            place are drawn evenly among its valid segments; a clip with fewer segments is taken whole. 0 takes every
            clip whole. An average of segments that is trained on parts is more accurate on the first seconds of a clip.

    Raises:
        ValueError: `mixup` or `min_segments` is negative, or `min_segments` is given with `single_segments`.

    >>> import tempfile
    >>> from kerastag.data import BalancedSampler, EmbeddingBatches, open_pack, write_synthetic_packs
    >>> pack = open_pack(write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_classes=4)["bal_train"])
    >>> batches = EmbeddingBatches(pack, BalancedSampler(pack.targets, batch_size=8))
    >>> [array.shape for array in batches.batch(3)]
    [(8, 10, 128), (8, 4)]
    """

    pack: Any
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    single_segments: bool = False
    mixup: float = 0.0
    min_segments: int = 0

    def __post_init__(self) -> None:
        _check_mixup(self.mixup)
        if self.min_segments < 0 or (self.min_segments and self.single_segments):
            raise ValueError(
                "`min_segments` must be at least 0, and 0 with `single_segments`; "
                f"received: min_segments={self.min_segments}, single_segments={self.single_segments}"
            )

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: embeddings `(batch, segments, features)` and targets `(batch, classes)`, float32."""
        clips = self.sampler.batch(index)
        x, num_segments, targets = self.pack.rows(clips if self.rows is None else self.rows[clips])
        random = generator(self.sampler.seed, Purpose.EMBEDDING_BATCH, index)
        if self.single_segments:
            segments = (random.random(len(x)) * num_segments).astype(np.int64)
            x = x[np.arange(len(x)), segments][:, None]
            num_segments = np.ones(len(x), np.int64)
        elif self.min_segments:
            x, num_segments = draw_parts(x, num_segments.astype(np.int64), self.min_segments, random)
        embedding, target = scale(x, num_segments), targets.astype(np.float32)
        return mix_up(embedding, target, self.mixup, random) if self.mixup else (embedding, target)


@dataclass(frozen=True)
class WaveformBatches:
    """Training batches of waveforms from a pack.

    Args:
        pack: An `AudioPack`, several as `ConcatenatedPacks`, or another object with their attributes `lengths`,
            `targets` and `x_shape` and their method `crops`.
        sampler: Sampler over `rows`.
        rows: Row numbers of the pack that may be drawn, int `(rows,)`, or None for all.
        samples: Length of a random crop, samples, at least 1; None takes whole clips. A crop lies inside the valid
            samples of its clip; a clip shorter than the crop is padded with zeros.
        mixup: Parameter alpha of `mix_up`, 0 for none.
        gain_db: Largest attenuation of a waveform, dB, at least 0. That of each is drawn evenly from 0 to it, after
            `mix_up`. A network that was trained at the levels of its recordings alone recognizes little in a quiet
            room.

    Raises:
        ValueError: `samples` is below 1, or `mixup` or `gain_db` is negative.
    """

    pack: Any
    sampler: BalancedSampler
    rows: np.ndarray | None = None
    samples: int | None = None
    mixup: float = 0.0
    gain_db: float = 0.0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"`samples` must be at least 1; received: {self.samples}")
        _check_mixup(self.mixup)
        if not 0 <= self.gain_db < np.inf:
            raise ValueError(f"`gain_db` must be at least 0 and finite; received: {self.gain_db}")

    @property
    def num_samples(self) -> int:
        """Length of a waveform in a batch, samples."""
        return self.pack.x_shape[1] if self.samples is None else self.samples

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: waveforms `(batch, samples)` and targets `(batch, classes)`, float32."""
        clips, starts, random = self.draw(index)
        waveform = scale(self.pack.crops(clips, starts, self.num_samples), self.pack.lengths[clips] - starts)
        target = self.pack.targets[clips].astype(np.float32)
        if self.mixup:
            waveform, target = mix_up(waveform, target, self.mixup, random)
        if self.gain_db:
            waveform *= self.draw_gains(index)[:, None]
        return waveform, target

    def draw_gains(self, index: int) -> np.ndarray:
        """Draw the factors by which the waveforms of batch `index` are multiplied, float32 `(batch,)`."""
        random = generator(self.sampler.seed, Purpose.GAIN, index)
        return (10 ** (-self.gain_db / 20 * random.random(self.sampler.batch_size))).astype(np.float32)

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """Draw the rows of the clips of batch `index`, the first sample of each crop, and the generator of mixup."""
        clips = self.sampler.batch(index)
        clips = clips if self.rows is None else self.rows[clips]
        random = generator(self.sampler.seed, Purpose.WAVEFORM_BATCH, index)
        last_start = np.maximum(0, self.pack.lengths[clips].astype(np.int64) - self.num_samples)
        return clips, (random.random(len(clips)) * (last_start + 1)).astype(np.int64), random


@dataclass(frozen=True, kw_only=True)
class AudioFileBatches(WaveformBatches):
    """Training batches of the clips of a pack, whose waveforms tf.data decodes from the recordings.

    `kerastag.data.make_training_dataset` makes the dataset; `batch` reads the pack.

    Args:
        paths: Path of the recording of each row of the pack.
        sample_rate: Sample rate of the pack, Hz.
    """

    paths: np.ndarray
    sample_rate: int

    @classmethod
    def create(cls, batches: WaveformBatches, packs: Sequence[Any], recordings_dir: str | os.PathLike[str]) -> Self:
        """Find the recordings of all clips of packs, by the names that the packs have for them.

        Raises:
            FileNotFoundError: A recording does not exist.
        """
        paths = [Path(recordings_dir, os.fsdecode(name)) for pack in packs for name in pack.ids]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{recordings_dir}: must hold the recordings that {packs[0].path} names; "
                f"{len(missing)} of {len(paths)} do not exist, first {missing[0]}"
            )
        values = {field.name: getattr(batches, field.name) for field in fields(batches)}
        return cls(
            **values, paths=np.array([os.fsencode(path) for path in paths], object), sample_rate=packs[0].sample_rate
        )


def _check_mixup(mixup: float) -> None:
    if mixup < 0:
        raise ValueError(f"`mixup` must be at least 0; received: {mixup}")
