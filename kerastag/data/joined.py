"""Several packs read as one."""

from collections.abc import Sequence

import numpy as np

from kerastag.data.pack import FeaturePack


class JoinedPacks:
    """Packs of equal shapes -> one, the rows of the first followed by those of the next.

    Args:
        packs: at least one, opened.

    Raises:
        ValueError: no pack, or packs that differ in segments, features, classes or number type.

    >>> JoinedPacks([])
    Traceback (most recent call last):
    ...
    ValueError: `packs` must hold at least one pack, received none
    """

    def __init__(self, packs: Sequence[FeaturePack]) -> None:
        if not packs:
            raise ValueError("`packs` must hold at least one pack, received none")
        first = packs[0]
        ours = _kind(first)
        for pack in packs[1:]:
            if (theirs := _kind(pack)) != ours:
                raise ValueError(
                    f"{pack.path}: (segments, features, classes, type) must be those of {first.path}, {ours}; "
                    f"found {theirs}"
                )
        self.packs = tuple(packs)
        self.targets = np.concatenate([pack.targets for pack in packs])
        self.num_segments = np.concatenate([pack.num_segments for pack in packs])
        self._ends = np.cumsum([len(pack) for pack in packs])
        self._dtype = np.dtype(ours[-1])

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        return self.targets.shape[1]

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return (len(self), *self.packs[0].x_shape[1:])

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers in any order -> `(x, num_segments, targets)`, as of one pack."""
        if len(self.packs) == 1:
            return self.packs[0].rows(indices)
        indices = np.asarray(indices, np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            wrong = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"`indices` must lie in [0, {len(self)}), received {wrong}")
        which = np.searchsorted(self._ends, indices, side="right")
        x = np.empty((len(indices), *self.x_shape[1:]), self._dtype)
        for number, pack in enumerate(self.packs):
            here = np.flatnonzero(which == number)
            start = self._ends[number] - len(pack)
            x[here] = pack.rows(indices[here] - start)[0]
        return x, self.num_segments[indices], self.targets[indices]


def _kind(pack: FeaturePack) -> tuple[int, int, int, str]:
    """What packs must have in common: 8-bit embeddings are scaled when they are read, float ones are not."""
    x, _, _ = pack.rows(np.array([0]))
    return (*pack.x_shape[1:], pack.num_classes, x.dtype.name)
