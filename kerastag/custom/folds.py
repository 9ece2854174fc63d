"""Which recordings are held out together: folds from a CSV, from file names, or dealt class by class."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.data.audio_lists import AudioList, Recording

_ESC = re.compile(r"^(\d+)-\d+-[A-Z]")


def folds_of(clips: AudioList, settings: Any) -> np.ndarray:
    """Recordings -> the fold of each, int `(clips,)`, from 0.

    Raises:
        ValueError: the pattern does not match a name or has no group, a CSV names some folds and not others, there
            are fewer than three folds, or a class is in one fold alone.
    """
    if not settings.folds:
        return np.zeros(len(clips), int)
    names = [Path(recording.name).name for recording in clips.recordings]
    given = [recording.fold for recording in clips.recordings]
    if any(given):
        if not all(given):
            raise ValueError(f"{clips.source}: column fold is empty for {names[given.index('')]}")
    elif settings.fold_pattern or all(_ESC.match(name) for name in names):
        given = [_fold_of(name, re.compile(settings.fold_pattern or _ESC)) for name in names]
    if any(given):
        folds = np.unique(given, return_inverse=True)[1]
        if folds.max() < 2:
            raise ValueError(f"{clips.source}: must have at least 3 folds, has {folds.max() + 1}")
    else:
        folds = _deal(clips.recordings, settings.folds, settings.seed)
    for k, name in enumerate(clips.labels.names):
        if len(np.unique(folds[clips.targets[:, k]])) < 2:
            raise ValueError(f"{clips.source}: class {name!r} must be in at least two folds: give it more recordings")
    return folds


def _fold_of(name: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(name)
    if match is None or not match.groups() or not match[1]:
        raise ValueError(f"`fold_pattern` {pattern.pattern!r} must have a group that matches every file name: {name!r}")
    return match[1]


def _deal(recordings: Sequence[Recording], folds: int, seed: int) -> np.ndarray:
    """Recordings of one source together, sources dealt class by class to the fold that has least of the class."""
    sources: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for row, recording in enumerate(recordings):
        sources.setdefault((re.sub(r"[-_][^-_]*$", "", Path(recording.name).stem), recording.labels), []).append(row)
    if len({stem for stem, _ in sources}) < folds * 2:  # names like clip_001: the stem is no source
        sources = {(str(row), recording.labels): [row] for row, recording in enumerate(recordings)}
    random = np.random.default_rng(seed)
    order = sorted(sources, key=lambda source: (source[1], random.random()))
    dealt, counts = np.zeros(len(recordings), int), np.zeros((folds, max(max(r.labels) for r in recordings) + 1))
    for source in order:
        labels = list(source[1])
        fold = int(np.argmin(counts[:, labels].sum(axis=1) + 1e-3 * counts.sum(axis=1)))
        dealt[sources[source]] = fold
        counts[fold, labels] += len(sources[source])
    return dealt
