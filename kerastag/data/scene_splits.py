"""Which recordings the scenes of a split are mixed from: no fold and no source in two of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.mixing import generator

__all__ = ["DEFAULT_SPLITS", "Split", "deal"]

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
_TAKE = re.compile(r"^(\w+-\w+)-[A-Z]$", re.ASCII)  # ESC's names: fold-source-take


@dataclass(frozen=True)
class Split:
    """Which part of the recordings a split takes.

    Attributes:
        name: of the pack: `bal_train` and `eval` are what recipes look for.
        folds: which folds it takes; none takes all recordings.
        share: how much of them, in (0, 1].

    >>> Split.parse("valid=1,2,3,4:10%")
    Split(name='valid', folds=('1', '2', '3', '4'), share=0.1)
    """

    name: str
    folds: tuple[str, ...] = ()
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Split:
        """`NAME=FOLDS`, `NAME=SHARE%` or `NAME=FOLDS:SHARE%` -> a split.

        Raises:
            ValueError: not of these forms.
        """
        name, _, rest = text.partition("=")
        folds, _, percent = rest.rpartition(":") if rest.endswith("%") else (rest, "", "100%")
        names = tuple(fold.strip() for fold in folds.split(",")) if folds else ()
        share = re.fullmatch(r"(\d+(?:\.\d+)?)%", percent)
        if not _NAME.fullmatch(name) or not rest or not all(names) or not share or not 0 < float(share[1]) <= 100:
            raise ValueError(
                f"`split` must be NAME=FOLD,FOLD... or NAME=SHARE% or NAME=FOLD,...:SHARE%, received {text!r}"
            )
        return cls(name, names, float(share[1]) / 100)


DEFAULT_SPLITS = (Split("bal_train", share=0.8), Split("eval", share=0.2))


def deal(clips: AudioList, splits: Sequence[Split], seed: int = 0) -> dict[str, list[int]]:
    """Recordings -> split -> the rows of those that it takes.

    A recording's fold is the list's, or else what stands before the first `-` of its file name, as ESC-50 has it. Where
    several splits take shares of the same folds, every class is dealt by itself, and the takes of one source
    (`1-30226-A`, `1-30226-B`) stay together.

    Args:
        clips: the recordings.
        splits: which part each takes.
        seed: of the shares.

    Raises:
        ValueError: two splits of one name or with folds in common that differ in others, shares above 100 %, a fold
            that no recording has.
    """
    _check(clips, splits)
    rows: dict[str, list[int]] = {}
    for folds in dict.fromkeys(split.folds for split in splits):
        takers = [split for split in splits if split.folds == folds]
        inside = [i for i, r in enumerate(clips.recordings) if not folds or fold_of(r) in folds]
        rows |= _dealt(clips, takers, inside, seed)
    return {split.name: rows[split.name] for split in splits}


def fold_of(recording: Recording) -> str:
    """The fold of a recording: the list's, or what stands before the first `-` of its file name; or none."""
    before, dash, _ = recording.path.stem.partition("-")
    return recording.fold or (before if dash else "")


def _check(clips: AudioList, splits: Sequence[Split]) -> None:
    names = [split.name for split in splits]
    if not splits or len(set(names)) < len(names):
        raise ValueError(f"`splits` must have different names, at least one, received {', '.join(names) or 'none'}")
    if any(split.folds for split in splits) and not all(split.folds for split in splits):
        raise ValueError("`splits` must all name folds, or none of them")
    there = sorted({fold_of(recording) for recording in clips.recordings} - {""})
    for split in splits:
        if absent := [fold for fold in split.folds if fold not in there]:
            has = ", ".join(there[:20]) or "no folds: neither a column `fold` nor file names such as 1-30226-A.ogg"
            raise ValueError(f"{clips.source}: split {split.name}: no fold {absent[0]!r}; there are {has}")
        for other in splits:
            if split.folds != other.folds and set(split.folds) & set(other.folds):
                raise ValueError(
                    f"`splits` must not mix folds: {split.name} has {', '.join(split.folds)}, "
                    f"{other.name} has {', '.join(other.folds)}"
                )
        total = sum(other.share for other in splits if other.folds == split.folds)
        if total > 1 + 1e-9:
            raise ValueError(f"`splits` must not take more than there is: {split.name} and others take {total:.0%}")


def _dealt(clips: AudioList, takers: Sequence[Split], inside: Sequence[int], seed: int) -> dict[str, list[int]]:
    """Rows -> a share of every class for each taker."""
    by_class: dict[tuple[int, ...], dict[str, list[int]]] = {}
    class_of: dict[str, tuple[int, ...]] = {}  # a source that has several classes is dealt with the first of them
    for row in inside:
        recording = clips.recordings[row]
        take = _TAKE.match(recording.path.stem)
        source = take[1] if take else recording.name
        labels = class_of.setdefault(source, recording.labels)
        by_class.setdefault(labels, {}).setdefault(source, []).append(row)
    edges = np.cumsum([split.share for split in takers])
    dealt: dict[str, list[int]] = {split.name: [] for split in takers}
    for number, sources in enumerate(by_class.values()):
        shuffled = list(sources.values())
        generator(seed, 202, number).shuffle(shuffled)
        total, given = sum(map(len, shuffled)), 0
        for rows in shuffled:
            taker = int(np.searchsorted(edges, (given + len(rows) / 2) / total))
            if taker < len(takers):
                dealt[takers[taker].name] += rows
            given += len(rows)
    return {name: sorted(rows) for name, rows in dealt.items()}
