"""How often the sub-clips that a model selects lie where their class sounds, compared with chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kerastag.metrics.event_table import EventTable, check_framewise

__all__ = [
    "LocalizationReport",
    "LocalizationScores",
    "compute_chance_localization",
    "compute_localization",
    "find_peaks",
]

_SHORT_SECONDS = 2.0
_ROUNDING = 1e-6
_HEADER = ("", "pairs", "selected", "center inside", "chance", "possible", "overlap", "chance")
_COLUMN_WIDTHS = (7, 10, 15, 8, 10, 9, 8)
_OLD_NAMES = {"positives": "num_pairs", "chosen": "num_selected"}


@dataclass(frozen=True)
class LocalizationScores:
    """Shares of the sub-clips that overlap, or have their center in, an event of their class.

    Attributes:
        num_pairs: Number of pairs of a clip and a class that has an event in it.
        num_selected: Number of these pairs for which a sub-clip was selected.
        overlap: Share of the selected pairs whose sub-clip overlaps an event of the class, in [0, 1].
        overlap_chance: The same share for sub-clips at random positions.
        center: Share of the selected pairs whose sub-clip has its center in an event of the class, in [0, 1].
        center_chance: The same share for sub-clips at random positions.
        center_possible: The same share for the best sub-clip within the clip.
    """

    num_pairs: int
    num_selected: int
    overlap: float
    overlap_chance: float
    center: float
    center_chance: float
    center_possible: float


@dataclass(frozen=True)
class LocalizationReport:
    """Localization of all pairs of clip and class, and of two groups of them.

    `short` are the pairs all of whose events last at most two seconds; `close` are those with several events, two of
    them at most two seconds apart.
    """

    all: LocalizationScores
    short: LocalizationScores
    close: LocalizationScores

    def as_dict(self) -> dict[str, Any]:
        """Return plain dictionaries for strict JSON; NaN becomes None."""
        return {
            group: {name: None if math.isnan(value) else value for name, value in scores.items()}
            for group, scores in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> LocalizationReport:
        """Restore a report from the result of `as_dict`, of this version or an earlier one."""
        groups = {}
        for group, scores in values.items():
            names = (_OLD_NAMES.get(name, name).replace("centre", "center") for name in scores)
            numbers: Iterator[Any] = (math.nan if value is None else value for value in scores.values())
            groups[group] = LocalizationScores(**dict(zip(names, numbers, strict=True)))
        return cls(**groups)

    def format_table(self) -> str:
        """Format the scores as lines of text: one row per group, each share beside its chance level."""
        rows: list[tuple[str, ...]] = [_HEADER]
        for group, s in (("all", self.all), ("short", self.short), ("close", self.close)):
            shares = (s.center, s.center_chance, s.center_possible, s.overlap, s.overlap_chance)
            cells = ("-" if math.isnan(share) else f"{share:.3f}" for share in shares)
            rows.append((group, f"{s.num_pairs:,}", f"{s.num_selected:,}", *cells))
        return "\n".join(f"{group:8}" + "".join(map(str.rjust, cells, _COLUMN_WIDTHS)) for group, *cells in rows)


def compute_localization(
    ground_truth: EventTable,
    start_seconds: np.ndarray,
    classes: np.ndarray,
    sub_clip_seconds: float,
    clip_seconds: float,
) -> LocalizationReport:
    """Compare selected sub-clips with the true events of their classes.

    Args:
        ground_truth: True events.
        start_seconds: Start of each sub-clip, seconds, `(clips, sub_clips)`.
        classes: Index of the class that each sub-clip was selected for, `(clips, sub_clips)`. A class without an event
            in the clip is ignored; of several sub-clips for a class, the first one counts.
        sub_clip_seconds: Length of a sub-clip, seconds, at least 0; 0 for points, such as those of `find_peaks`.
        clip_seconds: Length of a clip, seconds, above `sub_clip_seconds`.

    Raises:
        ValueError: The shapes do not fit, or an argument is out of range.

    >>> from kerastag.metrics import EventTable, compute_localization
    >>> ground_truth = EventTable([0], [1], [4.0], [6.0], num_clips=1, num_classes=2)
    >>> report = compute_localization(ground_truth, [[2.0, 0.0]], [[1, 0]], sub_clip_seconds=3.0, clip_seconds=10.0)
    >>> report.all.overlap, report.all.center, round(report.all.center_chance, 3)
    (1.0, 0.0, 0.286)
    """
    start_seconds, classes = np.asarray(start_seconds, float), np.asarray(classes, int)
    if start_seconds.shape != classes.shape or classes.ndim != 2 or len(classes) != ground_truth.num_clips:
        raise ValueError(
            f"`start_seconds` and `classes` must be ({ground_truth.num_clips}, sub_clips); "
            f"received: shapes {start_seconds.shape} and {classes.shape}"
        )
    overlap_chance, center_chance = compute_chance_localization(ground_truth, sub_clip_seconds, clip_seconds)
    pairs, pair_of_event = np.unique(ground_truth.pair_index, return_inverse=True)
    start_by_pair = np.full(ground_truth.num_clips * ground_truth.num_classes, np.nan)
    keys = np.arange(ground_truth.num_clips)[:, None] * ground_truth.num_classes + classes
    start_by_pair[keys.ravel()[::-1]] = start_seconds.ravel()[::-1]  # reversed, so that the first sub-clip counts
    start = start_by_pair[ground_truth.pair_index]
    center = start + sub_clip_seconds / 2
    overlaps = (start <= ground_truth.offset) & (start + sub_clip_seconds >= ground_truth.onset)
    is_inside = (center >= ground_truth.onset) & (center <= ground_truth.offset)
    is_long = ground_truth.durations > _SHORT_SECONDS + _ROUNDING
    is_close = np.zeros(len(ground_truth), bool)
    pauses = ground_truth.onset[1:] - ground_truth.offset[:-1]
    is_close[1:] = (np.diff(pair_of_event) == 0) & (pauses <= _SHORT_SECONDS + _ROUNDING)

    def any_of_pair(condition: np.ndarray) -> np.ndarray:
        return np.bincount(pair_of_event, condition, minlength=len(pairs)) > 0

    is_selected = np.isfinite(start_by_pair[pairs])
    shares = (any_of_pair(overlaps), overlap_chance, any_of_pair(is_inside), center_chance, center_chance > 0)

    def compute_scores(group: np.ndarray) -> LocalizationScores:
        rows = group & is_selected
        means = [float(np.mean(share[rows])) if rows.any() else math.nan for share in shares]
        return LocalizationScores(int(group.sum()), int(rows.sum()), *means)

    return LocalizationReport(
        all=compute_scores(np.ones(len(pairs), bool)),
        short=compute_scores(~any_of_pair(is_long)),
        close=compute_scores(any_of_pair(is_close)),
    )


def find_peaks(framewise: np.ndarray, seconds_per_frame: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the middle of the most probable frame of every class.

    Of several most probable frames, the result is the middle of the first one and those that follow it directly.

    Args:
        framewise: Probabilities in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: Hop from one frame to the next, seconds, above 0.

    Returns:
        `start_seconds` and `classes` for `compute_localization`, both `(clips, classes)`.

    Raises:
        ValueError: `framewise` has another shape or range.

    >>> from kerastag.metrics import find_peaks
    >>> start_seconds, classes = find_peaks([[[0.1], [0.7], [0.7], [0.2]]], 0.5)
    >>> start_seconds.tolist(), classes.tolist()
    ([[1.0]], [[0]])
    """
    framewise = check_framewise(framewise)
    first = framewise.argmax(axis=1)
    is_lower = framewise < framewise.max(axis=1, keepdims=True)
    is_lower &= np.arange(framewise.shape[1])[:, None] > first[:, None]
    end = np.where(is_lower.any(axis=1), is_lower.argmax(axis=1), framewise.shape[1])
    start_seconds = (first + end) / 2 * seconds_per_frame
    return start_seconds, np.broadcast_to(np.arange(framewise.shape[2]), start_seconds.shape)


def compute_chance_localization(
    ground_truth: EventTable, sub_clip_seconds: float, clip_seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the exact localization of a sub-clip at a random position.

    The start of the sub-clip is uniform between 0 and `clip_seconds - sub_clip_seconds`.

    Arguments and errors are those of `compute_localization`.

    Returns:
        Probability that the sub-clip overlaps an event, and that its center lies in one, both `(pairs,)`, for each pair
        of a clip and a class that has an event in it, by clip and class.
    """
    if not 0 <= sub_clip_seconds < clip_seconds < math.inf:
        allowed = f"at least 0 and below `clip_seconds` ({clip_seconds})"
        raise ValueError(f"`sub_clip_seconds` must be {allowed}; received: {sub_clip_seconds}")
    last_start = clip_seconds - sub_clip_seconds
    onset, offset = ground_truth.onset, ground_truth.offset
    overlap = _measure_union(ground_truth, onset - sub_clip_seconds, offset, last_start)
    center = _measure_union(ground_truth, onset - sub_clip_seconds / 2, offset - sub_clip_seconds / 2, last_start)
    return overlap / last_start, center / last_start


def _measure_union(ground_truth: EventTable, first: np.ndarray, end: np.ndarray, limit: float) -> np.ndarray:
    """Return the length of the union of each pair's intervals within [0, limit], seconds."""
    first, end = np.clip(first, 0, limit), np.clip(end, 0, limit)
    pairs, pair_of_event = np.unique(ground_truth.pair_index, return_inverse=True)
    length, reached = np.zeros((2, len(pairs)))
    # The events of a pair are sorted by onset, so that what the earlier ones cover ends at one point.
    for row, pair in enumerate(pair_of_event):
        length[pair] += max(0.0, end[row] - max(first[row], reached[pair]))
        reached[pair] = max(reached[pair], end[row])
    return length
