"""The questions that are most useful for a head: doubtful labels, loud alarms, and parts that it is not sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from kerastag.custom.label_errors import find_label_errors

__all__ = ["Candidates", "Question", "pick_diverse", "select_questions"]

_NUM_PER_PICK = {"alarm": 3, "uncertain": 10}  # candidates from which one question is picked
_TINY = 1e-6

Reason = Literal["label", "alarm", "uncertain"]


class Question(NamedTuple):
    """The question whether a part contains a class.

    Attributes:
        row: Row number of the part among the candidates.
        class_index: Index of the class.
        reason: Why it is asked: the label of a clip looks wrong (`label`), the class reaches its threshold (`alarm`),
            or its probability is close to the threshold (`uncertain`).
        suggestion: Index of the most probable class of a clip whose label is in doubt, or None.
    """

    row: int
    class_index: int
    reason: Reason
    suggestion: int | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """What can be asked about: the clips of a run, and after them the parts of the pool.

    Attributes:
        embeddings: Average embedding of each row, `(rows, features)`.
        probabilities: Predictions, `(rows, classes)`; those of clips are of taggers that were not trained on them.
        is_known: Whether each label of a row is known, bool `(rows, classes)`; those of clips are.
        targets: Labels of the clips, bool `(clips, classes)`; a clip has a row number below their number.
        thresholds: Threshold of every class, `(classes,)`.
        classes: Indices of the classes that can be asked about.
    """

    embeddings: np.ndarray
    probabilities: np.ndarray
    is_known: np.ndarray
    targets: np.ndarray
    thresholds: np.ndarray
    classes: np.ndarray

    @property
    def num_clips(self) -> int:
        """Number of rows that are clips."""
        return len(self.targets)


def select_questions(
    candidates: Candidates, count: int, answered: frozenset[tuple[int, int]], alarm_share: float = 0.5
) -> list[Question]:
    """Select the most useful questions.

    At most half of them, and the first ones, are about labels of clips that are probably wrong. The others are in turn
    about the most probable alarms, and about the parts whose probabilities are closest to the thresholds, each of them
    as different as possible from the parts that have answers and from the other questions.

    Args:
        candidates: What can be asked about.
        count: Largest number of questions, at least 1.
        answered: Rows and classes that must not be asked about again.
        alarm_share: Share of the other questions that are about alarms, in [0, 1].
    """
    questions = _find_doubtful_labels(candidates, answered)[: max(1, count // 2)]
    is_open = ~candidates.is_known
    is_open[: candidates.num_clips] = False
    is_open[:, np.setdiff1d(np.arange(is_open.shape[1]), candidates.classes)] = False
    for row, k in answered:
        is_open[row, k] = False
    is_alarm = is_open & (candidates.probabilities >= candidates.thresholds)
    margins = np.abs(_compute_logits(candidates.probabilities) - _compute_logits(candidates.thresholds))
    asked_rows = sorted({row for row, _ in answered})
    num_alarms = round((count - len(questions)) * alarm_share + 1e-9)
    alarms = _select(candidates, "alarm", is_alarm, -candidates.probabilities, num_alarms, asked_rows)
    is_rest = is_open.copy()
    is_rest[[question.row for question in alarms]] = False
    num_rest = count - len(questions) - len(alarms)
    asked_rows += [question.row for question in alarms]
    uncertain = _select(candidates, "uncertain", is_rest, margins, num_rest, asked_rows)
    for pair in zip(alarms, uncertain, strict=False):
        questions += pair
    num_pairs = min(len(alarms), len(uncertain))
    return questions + alarms[num_pairs:] + uncertain[num_pairs:]


def pick_diverse(embeddings: np.ndarray, rows: Sequence[int], others: Sequence[int], count: int) -> list[int]:
    """Pick rows, each of which is the farthest one from those before it and from other rows.

    The first of all is the first row where there are no others.

    Args:
        embeddings: Embeddings, `(rows, features)`.
        rows: Row numbers to pick from, in order of preference.
        others: Row numbers to keep away from.
        count: Largest number of rows to pick.

    >>> x = np.array([[0.0], [0.1], [1.0], [0.5]])
    >>> pick_diverse(x, [0, 1, 2, 3], [], 3)
    [0, 2, 3]

    Reference: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", 2018, the
        greedy algorithm.
    """
    x = embeddings[list(rows)].astype(np.float64)
    distances = np.full(len(rows), np.inf)
    for other in others:
        distances = np.minimum(distances, np.linalg.norm(x - embeddings[other], axis=1))
    picked: list[int] = []
    for _ in range(min(count, len(rows))):
        best = int(distances.argmax())
        picked.append(int(rows[best]))
        distances = np.minimum(distances, np.linalg.norm(x - x[best], axis=1))
        distances[best] = -1.0
    return picked


def _find_doubtful_labels(candidates: Candidates, answered: frozenset[tuple[int, int]]) -> list[Question]:
    clips, known = candidates.num_clips, candidates.is_known[: candidates.num_clips].all(axis=1)
    rows = np.flatnonzero(known)
    questions = []
    classes = set(candidates.classes.tolist())
    for error in find_label_errors(candidates.targets[rows], candidates.probabilities[:clips][rows]):
        row, k = int(rows[error.row]), error.suggestion if error.label is None else error.label
        if k is not None and k in classes and not any((row, each) in answered for each in classes):
            suggestion = error.suggestion if error.label is not None and error.suggestion in classes else None
            questions.append(Question(row, k, "label", suggestion))
    return questions


def _select(
    candidates: Candidates,
    reason: Literal["alarm", "uncertain"],
    is_open: np.ndarray,
    order: np.ndarray,
    count: int,
    others: Sequence[int],
) -> list[Question]:
    """Select questions about one class per row, that with the least value of `order`, and the most diverse rows."""
    values = np.where(is_open, order, np.inf)
    best = values.argmin(axis=1)
    lowest = values[np.arange(len(values)), best]
    rows = np.argsort(lowest, kind="stable")[: _NUM_PER_PICK[reason] * max(count, 0)]
    rows = rows[np.isfinite(lowest[rows])]
    x = candidates.embeddings / np.maximum(np.linalg.norm(candidates.embeddings, axis=1, keepdims=True), _TINY)
    picked = pick_diverse(x, rows.tolist(), others, count) if len(rows) else []
    return [Question(row, int(best[row]), reason) for row in picked]


def _compute_logits(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities, _TINY, 1 - _TINY)
    return np.log(p) - np.log1p(-p)
