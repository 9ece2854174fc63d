"""Windows that a model chose for a class -> how many lie where the class sounds, and how many would by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastag.metrics.event_table import EventTable, check_framewise
from kerastag.metrics.f1 import joined

__all__ = ["LocalisationFigures", "Localization", "localization", "peaks", "window_chance"]

SHORT_SECONDS = 2.0
"""Events up to this length are `short`; events of a class with a pause up to this length between them are `close`."""
_WIDTHS = (15, 8, 10, 9, 8)


@dataclass(frozen=True)
class LocalisationFigures:
    """Shares of the pairs of a clip and a class that sounds in it, and for which a window was chosen.

    Attributes:
        positives: pairs of a clip and a class that sounds in it.
        chosen: those of them for which a window was chosen.
        overlap: share of `chosen` whose window overlaps an event of the class.
        overlap_chance: the same for windows anywhere in the clip.
        center: share of `chosen` whose window's center lies inside an event of the class.
        center_chance: the same for windows anywhere in the clip.
        center_possible: share of `chosen` where a window could have its center inside at all: windows do not reach
            beyond the clip's ends.
    """

    positives: int
    chosen: int
    overlap: float
    overlap_chance: float
    center: float
    center_chance: float
    center_possible: float


@dataclass(frozen=True)
class Localization:
    """Figures of all pairs, of those whose events are short, and of those with several events close to each other.

    Attributes:
        all: every pair.
        short: pairs all of whose events last at most two seconds.
        close: pairs with several events, of which two follow each other within two seconds.
    """

    all: LocalisationFigures
    short: LocalisationFigures
    close: LocalisationFigures

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what no pair has is None."""
        return {
            name: {k: None if math.isnan(v) else v for k, v in vars(getattr(self, name)).items()}
            for name in ("all", "short", "close")
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> Localization:
        """What `as_dict` gave, such as `localization` of a run's `metrics.json`, read back.

        >>> figures = LocalisationFigures(3, 2, 1.0, 0.7, 0.5, 0.5, float("nan"))
        >>> kept = Localization(figures, figures, figures).as_dict()
        >>> Localization.from_dict(kept).as_dict() == kept
        True
        """

        def figures(kept: Mapping[str, Any]) -> LocalisationFigures:
            known: dict[str, Any] = {key: math.nan if value is None else value for key, value in kept.items()}
            return LocalisationFigures(**known)

        return cls(**{name: figures(kept) for name, kept in values.items()})

    def table(self) -> str:
        """Lines of text: a row for each of the three, beside each share what chance gives and what is possible."""
        titles = ("center inside", "chance", "possible", "overlap", "chance")
        lines = [f"{'':8}{'pairs':>7}{'chosen':>8}{''.join(f'{t:>{w}}' for t, w in zip(titles, _WIDTHS, strict=True))}"]
        for name in ("all", "short", "close"):
            f = getattr(self, name)
            shares = (f.center, f.center_chance, f.center_possible, f.overlap, f.overlap_chance)
            cells = (f"{'-' if math.isnan(s) else format(s, '.3f'):>{w}}" for s, w in zip(shares, _WIDTHS, strict=True))
            lines.append(f"{name:8}{f.positives:7,}{f.chosen:8,}{''.join(cells)}")
        return "\n".join(lines)


def localization(
    truth: EventTable,
    start_seconds: np.ndarray,
    classes: np.ndarray,
    clip_seconds: float,
    duration_seconds: float,
) -> Localization:
    """Chosen windows and the true events -> how well the windows of truly present classes were chosen.

    A window of a class that does not sound in its clip does not count: there is nowhere for it to be. Where several
    windows of a clip were chosen for the same class, the first one counts.

    Args:
        truth: the true events.
        start_seconds: where the windows begin, `(clips, windows)`.
        classes: the class that each was chosen for, `(clips, windows)`.
        clip_seconds: length of a window, at least 0: 0 asks for moments, as `peaks` gives them.
        duration_seconds: length of a clip, at least that of a window.

    Raises:
        ValueError: shapes that do not fit, or an argument out of range.

    >>> truth = EventTable([0], [1], [4.0], [6.0], num_clips=1, num_classes=2)
    >>> found = localization(truth, [[2.0, 0.0]], [[1, 0]], clip_seconds=3.0, duration_seconds=10.0).all
    >>> found.overlap, found.center, round(found.center_chance, 3)
    (1.0, 0.0, 0.286)
    """
    start_seconds, classes = np.asarray(start_seconds, float), np.asarray(classes, int)
    if start_seconds.shape != classes.shape or classes.ndim != 2 or len(classes) != truth.num_clips:
        raise ValueError(
            f"`start_seconds` and `classes` must be ({truth.num_clips}, windows), "
            f"received {start_seconds.shape} and {classes.shape}"
        )
    chance = window_chance(truth, clip_seconds, duration_seconds)
    pairs = np.unique(truth.pair)
    start = np.full(truth.num_clips * truth.num_classes, np.nan)
    keys = np.arange(truth.num_clips)[:, None] * truth.num_classes + classes
    start[keys.ravel()[::-1]] = start_seconds.ravel()[::-1]  # of several, the first is written last
    begin = start[truth.pair]
    center = begin + clip_seconds / 2
    overlap = _any(truth, pairs, (begin <= truth.offset) & (begin + clip_seconds >= truth.onset))
    inside = _any(truth, pairs, (center >= truth.onset) & (center <= truth.offset))
    chosen = np.isfinite(start[pairs])
    short, close = _short(truth, pairs), _close(truth, pairs)

    def figures(which: np.ndarray) -> LocalisationFigures:
        rows = which & chosen
        values = (overlap, chance[0], inside, chance[1], chance[1] > 0)
        means = [float(np.mean(v[rows])) if rows.any() else math.nan for v in values]
        return LocalisationFigures(int(which.sum()), int(rows.sum()), *means)

    return Localization(figures(np.ones(len(pairs), bool)), figures(short), figures(close))


def peaks(framewise: np.ndarray, seconds_per_frame: float) -> tuple[np.ndarray, np.ndarray]:
    """Framewise probabilities -> for every class, the middle of its most probable frame, for `localization`.

    Of several such frames the middle of the first ones in a row, as `ClassWiseClipSelect` takes it. Works for every
    model with `framewise`, those of paper 1 too.

    Args:
        framewise: in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: from one frame to the next, above 0.

    Returns:
        `start_seconds` and `classes`, `(clips, classes)`: windows without length.

    >>> start, classes = peaks(np.array([[[0.1], [0.9], [0.2]]]), 0.5)
    >>> start.tolist(), classes.tolist()
    ([[0.75]], [[0]])
    """
    framewise = check_framewise(framewise)
    first = framewise.argmax(axis=1)
    less = framewise < framewise.max(axis=1, keepdims=True)
    less &= np.arange(framewise.shape[1])[:, None] > first[:, None]
    after = np.where(less.any(axis=1), less.argmax(axis=1), framewise.shape[1])
    start = (first + after) / 2 * seconds_per_frame
    return start, np.broadcast_to(np.arange(framewise.shape[2]), start.shape)


def window_chance(truth: EventTable, clip_seconds: float, duration_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """The true events -> what a window anywhere in the clip would reach, exactly.

    The window begins anywhere from 0 to `duration_seconds - clip_seconds`, all places alike.

    Args:
        truth: the true events.
        clip_seconds: length of a window, at least 0.
        duration_seconds: length of a clip, above that of a window.

    Returns:
        For every pair of a clip and a class that sounds in it, by clip and class: the probability that the window
        overlaps an event of the class, and that its center lies inside one.

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 <= clip_seconds < duration_seconds < math.inf:
        allowed = f"at least 0 and below `duration_seconds` ({duration_seconds})"
        raise ValueError(f"`clip_seconds` must be {allowed}, received {clip_seconds}")
    latest = duration_seconds - clip_seconds
    overlap = _covered(truth, truth.onset - clip_seconds, truth.offset, latest)
    center = _covered(truth, truth.onset - clip_seconds / 2, truth.offset - clip_seconds / 2, latest)
    return overlap / latest, center / latest


def _covered(truth: EventTable, first: np.ndarray, end: np.ndarray, latest: float) -> np.ndarray:
    """Seconds of [0, latest] that the intervals of each pair cover together."""
    first, end = np.clip(first, 0, latest), np.clip(end, 0, latest)
    pairs = np.unique(truth.pair)
    covered, reached = np.zeros(len(pairs)), np.zeros(len(pairs))
    # Events of a pair come by onset, so what is covered so far ends at one place.
    for row, place in enumerate(np.searchsorted(pairs, truth.pair)):
        covered[place] += max(0.0, end[row] - max(first[row], reached[place]))
        reached[place] = max(reached[place], end[row])
    return covered


def _any(truth: EventTable, pairs: np.ndarray, holds: np.ndarray) -> np.ndarray:
    found = np.zeros(len(pairs), bool)
    np.logical_or.at(found, np.searchsorted(pairs, truth.pair), holds)
    return found


def _short(truth: EventTable, pairs: np.ndarray) -> np.ndarray:
    return ~_any(truth, pairs, truth.seconds > SHORT_SECONDS + 1e-6)


def _close(truth: EventTable, pairs: np.ndarray) -> np.ndarray:
    i, j = joined(truth.pair, truth.pair)
    pause = truth.onset[j] - truth.offset[i]
    near = np.zeros(len(truth), bool)
    near[i[(j == i + 1) & (pause <= SHORT_SECONDS + 1e-6)]] = True
    return _any(truth, pairs, near)
