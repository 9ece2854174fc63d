"""How often the sub-clips that a model selects lie where their class sounds, compared with chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kerastag.metrics.event_table import EventTable, check_framewise, join_sorted_keys

__all__ = [
    "LocalizationReport",
    "LocalizationScores",
    "compute_chance_localization",
    "compute_localization",
    "find_peaks",
]

_SHORT_SECONDS = 2.0
_ROUNDING = 1e-6
_COLUMN_WIDTHS = (15, 8, 10, 9, 8)
_OLD_NAMES = {
    "positives": "num_pairs",
    "chosen": "num_selected",
    "centre": "center",
    "centre_chance": "center_chance",
    "centre_possible": "center_possible",
}


@dataclass(frozen=True)
class LocalizationScores:
    """Shares of the sub-clips that overlap, or have their center in, an event of their class.

    They are counted over pairs of a clip and a class that has an event in it.

    Attributes:
        num_pairs: Number of pairs.
        num_selected: Number of pairs for which a sub-clip was selected.
        overlap: Share of `num_selected` whose sub-clip overlaps an event of the class, in [0, 1].
        overlap_chance: The same share for sub-clips at random positions.
        center: Share of `num_selected` whose sub-clip has its center in an event of the class, in [0, 1].
        center_chance: The same share for sub-clips at random positions.
        center_possible: Share of `num_selected` for which some sub-clip has its center in an event: sub-clips do not
            reach beyond the ends of the clip.
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

    Attributes:
        all: Scores of all pairs.
        short: Scores of the pairs all of whose events last at most two seconds.
        close: Scores of the pairs with several events, two of them at most two seconds apart.
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
        """Restore a report from the dictionary that `as_dict` returned, this version's or an earlier one's.

        Args:
            values: Dictionary such as the entry `localization` of a run's `metrics.json`.

        >>> from kerastag.metrics import LocalizationReport, LocalizationScores
        >>> scores = LocalizationScores(3, 2, 1.0, 0.7, 0.5, 0.5, float("nan"))
        >>> report = LocalizationReport(scores, scores, scores)
        >>> LocalizationReport.from_dict(report.as_dict()).all.center
        0.5
        """
        groups = {}
        for group, scores in values.items():
            numbers: dict[str, Any] = {
                _OLD_NAMES.get(name, name): math.nan if value is None else value for name, value in scores.items()
            }
            groups[group] = LocalizationScores(**numbers)
        return cls(**groups)

    def format_table(self) -> str:
        """Format the scores as lines of text: one row per group, each share beside its chance level."""
        titles = ("center inside", "chance", "possible", "overlap", "chance")
        header = "".join(f"{title:>{width}}" for title, width in zip(titles, _COLUMN_WIDTHS, strict=True))
        lines = [f"{'':8}{'pairs':>7}{'selected':>10}{header}"]
        for group in ("all", "short", "close"):
            scores = getattr(self, group)
            names = ("center", "center_chance", "center_possible", "overlap", "overlap_chance")
            shares = [getattr(scores, name) for name in names]
            cells = "".join(
                f"{'-' if math.isnan(share) else format(share, '.3f'):>{width}}"
                for share, width in zip(shares, _COLUMN_WIDTHS, strict=True)
            )
            lines.append(f"{group:8}{scores.num_pairs:7,}{scores.num_selected:10,}{cells}")
        return "\n".join(lines)


def compute_localization(
    ground_truth: EventTable,
    start_seconds: np.ndarray,
    classes: np.ndarray,
    sub_clip_seconds: float,
    clip_seconds: float,
) -> LocalizationReport:
    """Compare selected sub-clips with the true events of their classes.

    A sub-clip of a class without an event in the clip is ignored. Of several sub-clips selected for the same class in a
    clip, the first one counts.

    Args:
        ground_truth: True events.
        start_seconds: Start of each sub-clip, seconds, `(clips, sub_clips)`.
        classes: Index of the class that each sub-clip was selected for, `(clips, sub_clips)`.
        sub_clip_seconds: Length of a sub-clip, seconds, at least 0; 0 for points in time, such as those of
            `find_peaks`.
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
    pairs = np.unique(ground_truth.pair_index)
    start_by_pair = np.full(ground_truth.num_clips * ground_truth.num_classes, np.nan)
    keys = np.arange(ground_truth.num_clips)[:, None] * ground_truth.num_classes + classes
    start_by_pair[keys.ravel()[::-1]] = start_seconds.ravel()[::-1]  # reversed, so that the first sub-clip counts
    start = start_by_pair[ground_truth.pair_index]
    center = start + sub_clip_seconds / 2
    overlaps = (start <= ground_truth.offset) & (start + sub_clip_seconds >= ground_truth.onset)
    is_inside = (center >= ground_truth.onset) & (center <= ground_truth.offset)
    shares = (
        _any_of_pair(ground_truth, pairs, overlaps),
        overlap_chance,
        _any_of_pair(ground_truth, pairs, is_inside),
        center_chance,
        center_chance > 0,
    )
    is_selected = np.isfinite(start_by_pair[pairs])

    def compute_scores(group: np.ndarray) -> LocalizationScores:
        rows = group & is_selected
        means = [float(np.mean(share[rows])) if rows.any() else math.nan for share in shares]
        return LocalizationScores(int(group.sum()), int(rows.sum()), *means)

    return LocalizationReport(
        all=compute_scores(np.ones(len(pairs), bool)),
        short=compute_scores(_find_short_pairs(ground_truth, pairs)),
        close=compute_scores(_find_close_pairs(ground_truth, pairs)),
    )


def find_peaks(framewise: np.ndarray, seconds_per_frame: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the middle of the most probable frame of every class.

    Where several frames in a row are equally probable, the middle of the first such row of frames is returned.

    Args:
        framewise: Probabilities in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: Hop from one frame to the next, seconds, above 0.

    Returns:
        `start_seconds` and `classes` for `compute_localization`, both `(clips, classes)`.

    Raises:
        ValueError: The probabilities have another shape or lie outside [0, 1].

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

    Args:
        ground_truth: True events.
        sub_clip_seconds: Length of the sub-clip, seconds, at least 0.
        clip_seconds: Length of a clip, seconds, above `sub_clip_seconds`.

    Returns:
        Two arrays `(pairs,)` over the pairs of a clip and a class with an event in it, by clip and class: the
        probability that the sub-clip overlaps an event of the class, and that its center lies in one.

    Raises:
        ValueError: An argument is out of range.
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
    pairs = np.unique(ground_truth.pair_index)
    length, reached = np.zeros(len(pairs)), np.zeros(len(pairs))
    # The events of a pair are sorted by onset, so that what the earlier ones cover ends at one point.
    for row, pair in enumerate(np.searchsorted(pairs, ground_truth.pair_index)):
        length[pair] += max(0.0, end[row] - max(first[row], reached[pair]))
        reached[pair] = max(reached[pair], end[row])
    return length


def _any_of_pair(ground_truth: EventTable, pairs: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """Return whether the condition holds for any event of each pair."""
    result = np.zeros(len(pairs), bool)
    np.logical_or.at(result, np.searchsorted(pairs, ground_truth.pair_index), condition)
    return result


def _find_short_pairs(ground_truth: EventTable, pairs: np.ndarray) -> np.ndarray:
    return ~_any_of_pair(ground_truth, pairs, ground_truth.durations > _SHORT_SECONDS + _ROUNDING)


def _find_close_pairs(ground_truth: EventTable, pairs: np.ndarray) -> np.ndarray:
    i, j = join_sorted_keys(ground_truth.pair_index, ground_truth.pair_index)
    pause = ground_truth.onset[j] - ground_truth.offset[i]
    is_close = np.zeros(len(ground_truth), bool)
    is_close[i[(j == i + 1) & (pause <= _SHORT_SECONDS + _ROUNDING)]] = True
    return _any_of_pair(ground_truth, pairs, is_close)
