"""The balanced sampler: which clips make up a batch, as a pure function of the seed and the number of the batch."""

from collections.abc import Iterator, Sequence

import numpy as np

from kerastag.rng import Purpose, generator

__all__ = ["BalancedSampler"]


class BalancedSampler:
    """Sampler of batches in which every class is drawn equally often.

    AudioSet is highly imbalanced: speech is in nearly every second clip, a toothbrush in one of ten thousand. Without
    balancing, a network hardly ever trains on rare classes. Balanced draws therefore visit the classes in shuffled
    cycles, each class once per cycle; a visit takes the next clip of the class, and the clips of a class come in
    shuffled rounds, each clip once per round. So over any stretch of balanced draws, the classes differ by at most one
    draw, and so do the clips of a class.

    A share `balance` of every batch is drawn that way, the rest from shuffled rounds of all clips. Batches are full.

    Nothing is drawn in advance and no state is carried from batch to batch: balanced draw number `n` belongs to cycle
    `n // K` of `K` classes; its class has been visited `n // K` times before, which gives the round and the place in
    it; and every shuffle has a generator of its own, keyed by the seed, its purpose and its number. Batch `i` is thus a
    pure function of the seed and `i`, and a resumed run draws exactly the batches that an uninterrupted one would have
    drawn.

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
        Kong et al., 2019, section VI-D: mini-batches are balanced to have approximately the same number of samples of
        every class. Here the numbers are the same up to one.
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
        self._starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        self._rows = np.concatenate([*rows_of_class, np.empty(0, np.int64)]).astype(np.int64)
        # The latest shuffles are cached. They are no state: each is a function of the seed and its own number.
        self._shuffled_rows = self._rows.copy()
        self._rounds = np.full(len(rows_of_class), -1, np.int64)
        self._orders: dict[Purpose, tuple[int, np.ndarray]] = {}

    def batch(self, index: int) -> np.ndarray:
        """Return the clips of a batch.

        Args:
            index: Number of the batch, from 0.

        Returns:
            Row numbers in random order, int64 `(batch_size,)`.

        Raises:
            ValueError: `index` is negative.
        """
        if index < 0:
            raise ValueError(f"`index` must be at least 0; received: {index}")
        # Before batch i, floor(i * batch_size * balance) draws were balanced: the share is exact in the long run.
        first, stop = (int(np.floor((index + step) * self.batch_size * self.balance)) for step in (0, 1))
        natural_first, natural_stop = index * self.batch_size - first, (index + 1) * self.batch_size - stop
        clips = np.concatenate([self._draw_balanced(first, stop), self._draw_natural(natural_first, natural_stop)])
        return clips[generator(self.seed, Purpose.BATCH_ORDER, index).permutation(len(clips))]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the batches `start` to `stop - 1`."""
        for index in range(start, stop):
            yield self.batch(index)

    def _draw_balanced(self, first: int, stop: int) -> np.ndarray:
        """Return the balanced draws `first` to `stop - 1`."""
        clips, num_classes = [np.empty(0, np.int64)], len(self._counts)
        while first < stop:
            cycle, place = divmod(first, num_classes)
            end = min(num_classes, place + stop - first)
            classes = self._order(Purpose.CLASS_ORDER, cycle, num_classes)[place:end]
            clips.append(self._visit(classes, cycle))
            first += end - place
        return np.concatenate(clips)

    def _visit(self, classes: np.ndarray, cycle: int) -> np.ndarray:
        """Return the clip that each of these classes contributes to a cycle."""
        rounds, place = np.divmod(cycle, self._counts[classes])
        for k, number in np.stack([classes, rounds], axis=1)[rounds != self._rounds[classes]]:
            rows = slice(self._starts[k], self._starts[k + 1])
            random = generator(self.seed, Purpose.CLIPS_OF_CLASS, k, number)
            self._shuffled_rows[rows] = random.permutation(self._rows[rows])
            self._rounds[k] = number
        return self._shuffled_rows[self._starts[classes] + place]

    def _draw_natural(self, first: int, stop: int) -> np.ndarray:
        """Return the draws `first` to `stop - 1` from the shuffled rounds of all clips."""
        clips = [np.empty(0, np.int64)]
        while first < stop:
            number, place = divmod(first, self.num_clips)
            end = min(self.num_clips, place + stop - first)
            clips.append(self._order(Purpose.CLIP_ORDER, number, self.num_clips)[place:end])
            first += end - place
        return np.concatenate(clips)

    def _order(self, purpose: Purpose, number: int, size: int) -> np.ndarray:
        """Return a shuffled `arange(size)`, cached because consecutive draws use the same one."""
        if purpose not in self._orders or self._orders[purpose][0] != number:
            self._orders[purpose] = number, generator(self.seed, purpose, number).permutation(size)
        return self._orders[purpose][1]
