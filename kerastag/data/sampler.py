"""Which clips make up batch i: class-balanced, seeded, and known without drawing the batches before it."""

from collections.abc import Iterator, Sequence

import numpy as np


class BalancedSampler:
    """Targets -> the row numbers of any batch, with every class drawn equally often.

    A share `balance` of every batch is class-balanced: classes are taken in shuffled cycles, each class once a
    cycle, and each class hands out its own clips in shuffled rounds, every clip once before any twice. The rest of
    the batch goes through all clips in shuffled rounds. Batches are always full.

    Batch i is a pure function of `(seed, i)`: the n-th balanced draw belongs to class cycle `n // K`, which has
    visited every class `n // K` times before, so that both shuffles are found by counting.

    Args:
        targets: labels, bool `(clips, classes)`.
        batch_size: clips a batch, at least 1.
        balance: share of a batch that is class-balanced, in [0, 1].
        seed: non-negative whole number.
        allow_empty_classes: leave out classes without a clip instead of refusing them.
        names: class names for messages.

    Raises:
        ValueError: a class without clips, or an argument out of range.

    >>> sampler = BalancedSampler(np.eye(3, dtype=bool)[[0, 0, 0, 0, 1, 2]], batch_size=3, seed=0)
    >>> sorted(sampler.batch(7).tolist())[1:]
    [4, 5]

    Reference: Kong et al., 2019, section VI-D, which asks for approximately the same number of samples a class.
    """

    def __init__(
        self,
        targets: np.ndarray,
        batch_size: int,
        *,
        balance: float = 1.0,
        seed: int = 0,
        allow_empty_classes: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        targets = np.asarray(targets, bool)
        if targets.ndim != 2 or not targets.size:
            raise ValueError(f"`targets` must be (clips, classes) with at least one of each, received {targets.shape}")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, received {batch_size}")
        if not 0 <= balance <= 1:
            raise ValueError(f"`balance` must be in [0, 1], received {balance}")
        if seed < 0:
            raise ValueError(f"`seed` must not be negative, received {seed}")
        self.num_clips, self.num_classes = targets.shape
        self.batch_size, self.balance, self.seed = batch_size, balance, seed
        self.empty_classes = np.flatnonzero(~targets.any(axis=0))
        if balance and len(self.empty_classes) and not allow_empty_classes:
            named = [names[int(k)] if names else str(k) for k in self.empty_classes]
            more = f" and {len(named) - 5} more" if len(named) > 5 else ""
            raise ValueError(
                f"`targets`: {len(named)} of {self.num_classes} classes have no clip: {', '.join(named[:5])}{more}"
            )
        self._classes = np.setdiff1d(np.arange(self.num_classes), self.empty_classes)
        if balance and not len(self._classes):
            raise ValueError("`targets`: no clip has a label, so no class can be balanced")
        by_class = [np.flatnonzero(targets[:, k]) for k in self._classes]
        self._counts = np.array([len(rows) for rows in by_class], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        self._rows = np.concatenate([*by_class, np.empty(0, np.int64)]).astype(np.int64)
        # What was last shuffled; only a cache, since every order is a function of the seed and its own number.
        self._order = self._rows.copy()
        self._rounds = np.full(len(by_class), -1, np.int64)
        self._shuffled: dict[str, tuple[int, np.ndarray]] = {}

    def batch(self, index: int) -> np.ndarray:
        """The number of a batch, from 0 -> its clips, int64 `(batch_size,)`, in random order."""
        if index < 0:
            raise ValueError(f"`index` must not be negative, received {index}")
        first, last = (int(np.floor((index + step) * self.batch_size * self.balance)) for step in (0, 1))
        all_first, all_last = index * self.batch_size - first, (index + 1) * self.batch_size - last
        clips = np.concatenate([self._balanced(first, last), self._natural(all_first, all_last)])
        return clips[self._random("batch", index).permutation(len(clips))]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Batches `start` to `stop - 1`, one after the other."""
        for index in range(start, stop):
            yield self.batch(index)

    def _balanced(self, first: int, last: int) -> np.ndarray:
        """The balanced draws `first` to `last - 1`."""
        drawn, num_classes = [], len(self._classes)
        while first < last:
            cycle, place = divmod(first, num_classes)
            stop = min(num_classes, place + last - first)
            classes = self._shuffle("classes", cycle, num_classes)[place:stop]
            drawn.append(self._clips_of(classes, cycle))
            first += stop - place
        return np.concatenate(drawn) if drawn else np.empty(0, np.int64)

    def _clips_of(self, classes: np.ndarray, visit: int) -> np.ndarray:
        """The clip that each of these classes hands out at its visit of that number."""
        rounds, place = np.divmod(visit, self._counts[classes])
        for k, number in np.stack([classes, rounds], axis=1)[rounds != self._rounds[classes]]:
            rows = slice(self._starts[k], self._starts[k + 1])
            self._order[rows] = self._random("class", k, number).permutation(self._rows[rows])
            self._rounds[k] = number
        return self._order[self._starts[classes] + place]

    def _natural(self, first: int, last: int) -> np.ndarray:
        """Draws `first` to `last - 1` of the shuffled rounds through all clips."""
        drawn = []
        while first < last:
            number, place = divmod(first, self.num_clips)
            stop = min(self.num_clips, place + last - first)
            drawn.append(self._shuffle("clips", number, self.num_clips)[place:stop])
            first += stop - place
        return np.concatenate(drawn) if drawn else np.empty(0, np.int64)

    def _shuffle(self, what: str, number: int, size: int) -> np.ndarray:
        if what not in self._shuffled or self._shuffled[what][0] != number:
            self._shuffled[what] = number, self._random(what, number).permutation(size)
        return self._shuffled[what][1]

    def _random(self, what: str, *numbers: int) -> np.random.Generator:
        purpose = ("classes", "class", "clips", "batch").index(what)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, purpose, *map(int, numbers)))))
