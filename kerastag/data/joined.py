"""Several packs read as one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerastag.data.audio_pack import AudioPack

# By the number of axes of what a pack holds.
_KINDS = {2: "(samples, classes, type, sample rate)", 3: "(segments, features, classes, type)"}


class Pack(Protocol):
    """What packs of embeddings and of waveforms have in common."""

    path: Path
    targets: np.ndarray
    attributes: dict[str, Any]

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def x_shape(self) -> tuple[int, ...]: ...

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class JoinedPacks:
    """Packs of equal shapes -> one, the rows of the first followed by those of the next.

    Args:
        packs: at least one, opened.

    Raises:
        ValueError: no pack, or packs that differ in the shape of a clip, classes, number type or sample rate.

    >>> JoinedPacks([])
    Traceback (most recent call last):
    ...
    ValueError: `packs` must hold at least one pack, received none
    """

    def __init__(self, packs: Sequence[Any]) -> None:
        if not packs:
            raise ValueError("`packs` must hold at least one pack, received none")
        first = packs[0]
        ours = _kind(first)
        for pack in packs[1:]:
            if (theirs := _kind(pack)) != ours:
                raise ValueError(
                    f"{pack.path}: {_KINDS[len(first.x_shape)]} must be those of {first.path}, {ours}; found {theirs}"
                )
        self.packs = tuple(packs)
        self.targets = np.concatenate([pack.targets for pack in packs])
        self.lengths = np.concatenate([pack.lengths for pack in packs])
        self._ends = np.cumsum([len(pack) for pack in packs])
        self._dtype = first.rows(np.array([0]))[0].dtype

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        return self.targets.shape[1]

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (len(self), *self.packs[0].x_shape[1:])

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers in any order -> `(x, lengths, targets)`, as of one pack."""
        if len(self.packs) == 1:
            return self.packs[0].rows(indices)
        indices = np.asarray(indices, np.int64)
        x = np.empty((len(indices), *self.x_shape[1:]), self._dtype)
        for pack, here, rows in self._places(indices):
            x[here] = pack.rows(rows)[0]
        return x, self.lengths[indices], self.targets[indices]

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Row numbers and where to start in each -> `(rows, samples)`, as of one pack of waveforms."""
        x = np.empty((len(indices), samples), self._dtype)
        for pack, here, rows in self._places(np.asarray(indices, np.int64)):
            x[here] = pack.crops(rows, starts[here], samples)
        return x

    def _places(self, indices: np.ndarray) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Each pack, which of the indices are its own, and their row numbers in it."""
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            wrong = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"`indices` must lie in [0, {len(self)}), received {wrong}")
        which = np.searchsorted(self._ends, indices, side="right")
        for number, pack in enumerate(self.packs):
            here = np.flatnonzero(which == number)
            yield pack, here, indices[here] - (self._ends[number] - len(pack))


def _kind(pack: Pack) -> tuple[Any, ...]:
    """What packs must have in common: integers are scaled when they are read, float embeddings are not."""
    x, _, _ = pack.rows(np.array([0]))
    kind = (*pack.x_shape[1:], pack.num_classes, x.dtype.name)
    return (*kind, pack.sample_rate) if isinstance(pack, AudioPack) else kind
