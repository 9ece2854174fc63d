"""The next questions about the clips of a run and the pool, and what a page shows of a question."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from kerastag.custom.answers import Answer, apply_answers
from kerastag.custom.clips import BACKGROUND
from kerastag.data.audio_lists import Recording
from kerastag.review.questions import Candidates, Question, select_questions
from kerastag.review.retraining import HeadTrainer, TrainedHead, get_part

__all__ = ["QuestionSelector"]

_MAX_CHOICES = 9  # classes that have a key


class QuestionSelector:
    """A selector of questions. A row is a clip of the run or, after all of them, a part of the pool.

    Args:
        trainer: Trainer of heads, with the clips and the pool.

    Attributes:
        class_names: Names of the classes that can be asked about.
    """

    def __init__(self, trainer: HeadTrainer) -> None:
        self._trainer = trainer
        self._all_names = trainer.clips.class_names
        self._classes = np.array([k for k, name in enumerate(self._all_names) if name != BACKGROUND])
        self.class_names = [self._all_names[k] for k in self._classes]
        self._parts = [*trainer.clips.audio, *trainer.pool.parts]
        self._row_of_part = {get_part(part): row for row, part in enumerate(self._parts) if isinstance(part, Recording)}
        self._embeddings = np.stack([bag.mean(axis=0, dtype=np.float32) for bag in (*trainer.bags, *trainer.pool.bags)])

    def select(
        self, trained: TrainedHead, answers: Sequence[Answer], skipped: Collection[tuple[int, int]], count: int
    ) -> list[Question]:
        """Select the most useful questions.

        Args:
            trained: Head whose predictions count.
            answers: Answers so far.
            skipped: Rows and classes that were skipped.
            count: Largest number of questions, at least 1.
        """
        trainer = self._trainer
        num_clips = len(trainer.clips)
        clips = apply_answers(trainer.clips, answers)
        is_known = np.zeros((len(self._parts), len(self._all_names)), bool)
        is_known[:num_clips] = clips.is_known[:num_clips]
        is_known[[row for row, part in enumerate(trainer.clips.audio) if not isinstance(part, Recording)]] = False
        for part, known in zip(clips.audio[num_clips:], clips.is_known[num_clips:], strict=True):
            if isinstance(part, Recording) and get_part(part) in self._row_of_part:
                is_known[self._row_of_part[get_part(part)]] = known
        cells = [self._find_cell(answer) for answer in answers]
        candidates = Candidates(
            embeddings=self._embeddings,
            probabilities=np.concatenate([trained.held_out[:num_clips], trained.pool]),
            is_known=is_known,
            targets=clips.targets[:num_clips],
            thresholds=trained.thresholds,
            classes=self._classes,
        )
        answered = frozenset([*filter(None, cells), *skipped])
        return select_questions(candidates, count, answered, self._estimate_false_share(answers))

    def describe(self, question: Question, trained: TrainedHead) -> dict[str, Any]:
        """Describe a question as JSON values."""
        recording, num_clips = self.get_recording(question), len(self._trainer.clips)
        is_clip = question.row < num_clips
        probabilities = trained.held_out[question.row] if is_clip else trained.pool[question.row - num_clips]
        ranked = sorted(self._classes.tolist(), key=lambda k: -probabilities[k])[:_MAX_CHOICES]
        labels = np.flatnonzero(trained.clips.targets[question.row]) if is_clip else ()
        return {
            "file": recording.name,
            "start_seconds": recording.start_seconds,
            "class": self.get_class_name(question),
            "probability": float(probabilities[question.class_index]),
            "threshold": float(trained.thresholds[question.class_index]),
            "reason": question.reason,
            "labels": [self._all_names[k] for k in labels],
            "suggestion": None if question.suggestion is None else self._all_names[question.suggestion],
            "choices": [self._all_names[k] for k in sorted(ranked)],
        }

    def get_class_name(self, question: Question) -> str:
        """Return the name of the class that a question is about."""
        return self._all_names[question.class_index]

    def get_recording(self, question: Question) -> Recording:
        """Return the part of a recording that a question is about."""
        part = self._parts[question.row]
        assert isinstance(part, Recording)  # Synthetic background is never asked about.
        return part

    def _find_cell(self, answer: Answer) -> tuple[int, int] | None:
        """Return the row and the class of an answer; None if it is about something else."""
        row = self._row_of_part.get(answer.part)
        if row is None or answer.class_name not in self._all_names:
            return None
        return row, self._all_names.index(answer.class_name)

    def _estimate_false_share(self, answers: Sequence[Answer]) -> float:
        """Estimate the share of false alarms among those of the head without answers; one half before any answer.

        Alarms that are right teach a head little.
        """
        trainer, counts = self._trainer, [1, 1]  # of false and of right alarms
        pool, first = trainer.baseline.pool, len(trainer.clips)
        for answer in answers:
            row, k = self._find_cell(answer) or (-1, -1)
            if row >= first and pool[row - first, k] >= trainer.thresholds[k]:
                counts[answer.answer] += 1
        return counts[0] / sum(counts)
