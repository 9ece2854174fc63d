"""Splits that give each part its share of every class, and keep recordings of one source in one part.

Models are otherwise evaluated on sounds that they were trained on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.rng import Purpose, generator

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
# ESC-50 names its files FOLD-SOURCE-TAKE-CLASS: takes A, B and so on are parts of one source recording.
_ESC_SOURCE = re.compile(r"^(\w+-\w+)-[A-Z]$", re.ASCII)
_ESC_FOLD = re.compile(r"^(\d+)-\d+-[A-Z]")


def split_classwise(
    classes: Sequence[Hashable],
    groups: Sequence[Hashable],
    shares: Sequence[float],
    make_generator: Callable[[int], np.random.Generator],
) -> np.ndarray:
    """Assign rows to parts, so that each part gets its share of every class and groups stay together.

    The groups of a class are shuffled and laid end to end, and the class is cut at the cumulated shares: a group
    belongs to the part in which its middle lies. All rows of a group have the class of its first one. `make_generator`
    takes the number of a class, in order of appearance. Rows in no part get the part `len(shares)`.

    >>> split_classwise("aaaabbbb", [1, 1, 2, 2, 3, 3, 4, 4], [0.5, 0.5], np.random.default_rng).tolist()
    [0, 0, 1, 1, 0, 0, 1, 1]
    """
    class_of_group: dict[Hashable, Hashable] = {}
    members: dict[Hashable, dict[Hashable, list[int]]] = {}
    for row, (name, group) in enumerate(zip(classes, groups, strict=True)):
        name = class_of_group.setdefault(group, name)
        members.setdefault(name, {}).setdefault(group, []).append(row)
    parts = np.full(len(classes), len(shares))
    for number, class_groups in enumerate(members.values()):
        sizes = np.array([len(rows) for rows in class_groups.values()])
        for rows, part in zip(class_groups.values(), _split_groups(sizes, shares, make_generator(number)), strict=True):
            parts[rows] = part
    return parts


def _split_groups(sizes: np.ndarray, shares: Sequence[float], random: np.random.Generator) -> np.ndarray:
    """Assign the groups of one class to parts, given the number of rows of each group."""
    order = random.permutation(len(sizes))
    shuffled = sizes[order]
    middles = (np.cumsum(shuffled) - shuffled / 2) / max(1, shuffled.sum())
    parts = np.empty(len(sizes), int)
    parts[order] = np.searchsorted(np.cumsum(shares), middles)
    return parts


def hold_out(targets: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split clips into those to train on and those to hold out, with about the same share of every class held out.

    Classes are visited from the rarest to the most frequent; a clip of several classes counts for all of them.

    Args:
        targets: Labels, bool `(clips, classes)`.
        share: Share of the clips to hold out, in (0, 1).
        seed: Seed of the choice, a non-negative integer.

    Returns:
        Row numbers of the clips to train on and of the clips that are held out, both sorted.

    Raises:
        ValueError: `share` is out of range, or one side would be empty.

    >>> from kerastag.data import hold_out
    >>> train, held_out = hold_out(np.eye(2, dtype=bool)[[0] * 8 + [1] * 8], share=0.25)
    >>> len(train), len(held_out)
    (12, 4)
    """
    targets = np.asarray(targets, bool)
    if not 0 < share < 1:
        raise ValueError(f"`share` must be above 0 and below 1; received: {share}")
    random = generator(seed, Purpose.HOLD_OUT)
    is_held_out, is_assigned = np.zeros(len(targets), bool), np.zeros(len(targets), bool)
    # Clips of no class come last, as if they were a class.
    by_class = (targets[:, k] for k in np.argsort(targets.sum(axis=0), kind="stable"))
    for is_member in chain(by_class, [~targets.any(axis=1)]):
        clips, free = np.flatnonzero(is_member), np.flatnonzero(is_member & ~is_assigned)
        number = max(0, round(share * len(clips)) - int(is_held_out[clips].sum()))  # Rarer classes have held out some.
        parts = _split_groups(np.ones(len(free), int), [number / max(1, len(free))], random)
        is_held_out[free[parts == 0]] = True
        is_assigned[clips] = True
    if is_held_out.all() or not is_held_out.any():
        raise ValueError(f"`share` must leave clips on both sides; received: {share} of {len(targets)} clips")
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


@dataclass(frozen=True)
class Split:
    """A split of soundscapes: the part of the recordings that its soundscapes are mixed from.

    Attributes:
        name: Name of the pack; recipes expect `bal_train` and `eval`.
        folds: Folds of the recordings; empty for all recordings.
        share: Share of these recordings, in (0, 1].

    >>> Split.parse("valid=1,2,3,4:10%")
    Split(name='valid', folds=('1', '2', '3', '4'), share=0.1)
    """

    name: str
    folds: tuple[str, ...] = ()
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Split:
        """Parse `NAME=FOLDS`, `NAME=SHARE%` or `NAME=FOLDS:SHARE%`."""
        name, _, rest = text.partition("=")
        folds_text, _, percent = rest.rpartition(":") if rest.endswith("%") else (rest, "", "100%")
        folds = tuple(fold.strip() for fold in folds_text.split(",")) if folds_text else ()
        share = re.fullmatch(r"(\d+(?:\.\d+)?)%", percent)
        if not _SPLIT_NAME.fullmatch(name) or not rest or not all(folds) or not share or not 0 < float(share[1]) <= 100:
            raise ValueError(
                f"`split` must be NAME=FOLD,FOLD... or NAME=SHARE% or NAME=FOLD,...:SHARE%; received: {text!r}"
            )
        return cls(name, folds, float(share[1]) / 100)


DEFAULT_SPLITS = (Split("bal_train", share=0.8), Split("eval", share=0.2))


def assign_recordings(clips: AudioList, splits: Sequence[Split], seed: int = 0) -> dict[str, list[int]]:
    """Assign recordings to splits of soundscapes, so that no fold and no source is in two of them.

    The fold of a recording is that of the list, or else what stands before the first `-` of its file name, as in
    ESC-50. Where several splits take shares of the same folds, every class is split by itself, and the takes of one
    source (`1-30226-A`, `1-30226-B`) stay together.

    Args:
        clips: Recordings.
        splits: Part of the recordings that each split takes.
        seed: Seed of the shares, a non-negative integer.

    Returns:
        Row numbers of the recordings of every split, sorted, by its name.

    Raises:
        ValueError: Splits have the same name, share only some of their folds or add up to more than 100 %, or no
            recording has a fold.
    """
    _check_splits(clips, splits)
    assigned: dict[str, list[int]] = {}
    for folds in dict.fromkeys(split.folds for split in splits):
        takers = [split for split in splits if split.folds == folds]
        rows = [row for row, recording in enumerate(clips.recordings) if not folds or _find_fold(recording) in folds]
        sources = [(clips.recordings[row].source, _ESC_SOURCE.match(clips.recordings[row].path.stem)) for row in rows]
        parts = split_classwise(
            [clips.recordings[row].labels for row in rows],
            [match[1] if match else source for source, match in sources],
            [split.share for split in takers],
            lambda number: generator(seed, Purpose.SOUNDSCAPE_SPLIT, number),
        )
        for part, split in enumerate(takers):
            assigned[split.name] = [row for row, its_part in zip(rows, parts, strict=True) if its_part == part]
    return {split.name: assigned[split.name] for split in splits}


def assign_folds(clips: AudioList, num_folds: int, *, pattern: str | None = None, seed: int = 0) -> np.ndarray:
    """Assign recordings to the folds of a cross-validation.

    Folds come from the first of these that exists: the list of recordings; `pattern`; file names like those of ESC-50.
    Otherwise the recordings are dealt to `num_folds` folds class by class, each to the fold with the fewest clips of
    its class. Recordings of one source stay together: files whose names differ only after the last `-` or `_`, and the
    labeled parts of one file, unless there are fewer files than folds.

    Args:
        clips: Recordings.
        num_folds: Number of folds if they are dealt, at least 3; 0 puts all recordings in one.
        pattern: Regular expression whose first group matches the fold in the name of a file.
        seed: Seed of the order in which sources are dealt.

    Returns:
        Fold of every recording from 0, int `(clips,)`.

    Raises:
        ValueError: The pattern does not match a name or has no group, the list gives a fold to some recordings only,
            there are fewer than three folds, or a class is in one fold alone.
    """
    if not num_folds:
        return np.zeros(len(clips), int)
    names = _read_folds(clips, pattern)
    if names:
        folds = np.unique(names, return_inverse=True)[1]
        if folds.max() < 2:
            raise ValueError(f"{clips.source}: must have at least 3 folds; received: {folds.max() + 1}")
    else:
        folds = _deal_folds(clips.recordings, num_folds, seed)
    for k, name in enumerate(clips.labels.names):
        if len(np.unique(folds[clips.targets[:, k]])) < 2:
            raise ValueError(f"{clips.source}: class {name!r} must be in at least two folds: add recordings of it")
    return folds


def _check_splits(clips: AudioList, splits: Sequence[Split]) -> None:
    names = [split.name for split in splits]
    if not splits or len(set(names)) < len(names):
        raise ValueError(f"`splits` must have different names, at least one; received: {', '.join(names) or 'none'}")
    if any(split.folds for split in splits) and not all(split.folds for split in splits):
        raise ValueError("`splits` must all name folds, or none of them")
    existing = sorted({_find_fold(recording) for recording in clips.recordings} - {""})
    for split in splits:
        if absent := [fold for fold in split.folds if fold not in existing]:
            folds = ", ".join(existing[:20]) or "none: neither a column `fold` nor file names such as 1-30226-A.ogg"
            raise ValueError(f"{clips.source}: split {split.name}: no fold {absent[0]!r}; the folds are {folds}")
        for other in splits:
            if split.folds != other.folds and set(split.folds) & set(other.folds):
                raise ValueError(
                    f"`splits` must not share only some folds; received: {', '.join(split.folds)} for {split.name} and "
                    f"{', '.join(other.folds)} for {other.name}"
                )
        total = sum(other.share for other in splits if other.folds == split.folds)
        if total > 1 + 1e-9:
            raise ValueError(f"`splits` must take at most 100%; received: {total:.0%} for {split.name} and others")


def _find_fold(recording: Recording) -> str:
    prefix, dash, _ = recording.path.stem.partition("-")
    return recording.fold or (prefix if dash else "")


def _read_folds(clips: AudioList, pattern: str | None) -> list[str]:
    """Read the folds that the list or the file names give; none if neither does."""
    folds = [recording.fold for recording in clips.recordings]
    names = [Path(recording.name).name for recording in clips.recordings]
    if any(folds):
        if not all(folds):
            raise ValueError(f"{clips.source}: column fold is empty for {names[folds.index('')]}")
        return folds
    matches = [re.search(pattern or _ESC_FOLD, name) for name in names]
    if pattern is None and not all(matches):
        return []
    for name, match in zip(names, matches, strict=True):
        if match is None or not match.groups() or not match[1]:
            raise ValueError(
                f"`fold_pattern` must have a group that matches every file name; received: {pattern!r} for {name!r}"
            )
    return [match[1] for match in matches if match]


def _deal_folds(recordings: Sequence[Recording], num_folds: int, seed: int) -> np.ndarray:
    """Deal sources class by class, each to the fold with the fewest clips of its classes, then of all classes.

    Unlike `split_classwise`, this fills folds evenly even where a class has fewer sources than there are folds.
    """
    sources: dict[Hashable, list[int]] = {}
    for row, recording in enumerate(recordings):
        stem = re.sub(r"[-_][^-_]*$", "", Path(recording.name).stem)
        is_part = recording.end_seconds is not None
        sources.setdefault(recording.source if is_part else (stem, recording.labels), []).append(row)
    has_parts = any(recording.end_seconds is not None for recording in recordings)
    names = {source if isinstance(source, str) else source[0] for source in sources}  # type: ignore[index]
    if len(names) < num_folds * (1 if has_parts else 2):  # names like clip_001, in which the stem is not a source
        sources = {row: [row] for row in range(len(recordings))}
        if has_parts:
            problem = f"fewer files than {num_folds} folds: parts of one file are in several of them"
            warnings.warn(f"{problem}, and the cross-validation is optimistic", stacklevel=2)
    labels_by_source = {
        source: list(dict.fromkeys(label for row in rows for label in recordings[row].labels))
        for source, rows in sources.items()
    }
    random = np.random.default_rng(seed)
    order = sorted(sources, key=lambda source: (labels_by_source[source], random.random()))
    folds = np.zeros(len(recordings), int)
    counts = np.zeros((num_folds, max(max(recording.labels) for recording in recordings) + 1))
    for source in order:
        labels = labels_by_source[source]
        fold = int(np.argmin(counts[:, labels].sum(axis=1) + 1e-3 * counts.sum(axis=1)))
        folds[sources[source]] = fold
        counts[fold, labels] += len(sources[source])
    return folds
