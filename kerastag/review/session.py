"""A review of one run: its questions, its answers, and the heads that are trained on them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.answers import Answer, AnswerStore, apply_answers
from kerastag.custom.clips import BACKGROUND
from kerastag.data.audio_lists import Recording
from kerastag.review.config import ReviewConfig
from kerastag.review.deployment import write_head
from kerastag.review.questions import Candidates, Question, select_questions
from kerastag.review.retraining import Part, get_part
from kerastag.review.run import ReviewedRun, open_run

__all__ = ["ReviewSession", "open_review"]

MAX_CHOICES = 9
"""Number of classes that have a key."""


class _Asked(NamedTuple):
    """A question that was answered or skipped, with the numbers of its answers."""

    question: Question
    numbers: list[int]


class ReviewSession:
    """The questions and answers of a review; its methods may be called by several threads.

    Every answer is on the disk before `answer` returns. One thread trains heads and writes them.

    Args:
        run: Run that is reviewed.
        config: Configuration of the review.
        log: Function that takes one line of text.

    Raises:
        ValueError: The file of answers is damaged.
        OSError: The file of answers cannot be created.
    """

    def __init__(self, run: ReviewedRun, config: ReviewConfig, log: Callable[[str], None]) -> None:
        self.run, self.config, self._log = run, config, log
        self._store = AnswerStore(run.folder.reviews_path)
        trainer = run.trainer
        self._class_names = trainer.clips.class_names
        self._classes = np.array([k for k, name in enumerate(self._class_names) if name != BACKGROUND])
        self._parts = [*trainer.clips.audio, *trainer.pool.parts]
        self._row_of_part = {get_part(part): row for row, part in enumerate(self._parts) if isinstance(part, Recording)}
        embeddings = [bag.mean(axis=0) for bag in (*trainer.bags, *trainer.pool.bags)]
        self._embeddings = np.stack(embeddings)
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="review")
        self._trained = trainer.baseline
        self._figures: dict[str, Any] | None = None
        self._task, self._task_start, self._error = "", 0.0, ""
        self._has_new_head = False
        self._queue: deque[Question] = deque()
        self._asked: list[_Asked] = []
        self._skipped: set[tuple[int, int]] = set()
        self._current: Question | None = None
        self._number = 0
        if self._store.read():
            self._train()
        self._advance()

    def describe(self) -> dict[str, Any]:
        """Describe the present question, the progress and the newest head, as JSON values."""
        with self._lock:
            answers = self._store.read()
            return {
                "run": str(self.run.folder.path),
                "reviewer": self.config.reviewer,
                "classes": [self._class_names[k] for k in self._classes],
                "question": None if self._current is None else self._describe_question(self._current),
                "answered": len({answer.part for answer in answers}),
                "in_session": len(self._asked),
                "round_rest": len(self._queue),
                "untrained": len(answers) - self._trained.num_answers,
                "can_undo": bool(self._asked),
                "task": self._task,
                "task_seconds": time.monotonic() - self._task_start if self._task else 0.0,
                "error": self._error,
                "figures": self._figures,
                "has_new_head": self._has_new_head,
            }

    def answer(self, number: int, value: str) -> None:
        """Answer a question, or skip it.

        Args:
            number: Number of the question.
            value: `yes`, `no`, `skip`, or `class:NAME` where the part contains another class instead.

        Raises:
            LookupError: The question is not the present one.
            ValueError: `value` is not an answer.
            OSError: The answer cannot be saved.
        """
        with self._lock:
            question = self._current
            if question is None or number != self._number:
                raise LookupError(f"question {number} is not the present one, {self._number}")
            values = self._read_value(question, value)
            numbers = self._store.add(values) if values else []
            if not values:
                self._skipped.add((question.row, question.class_index))
            self._asked.append(_Asked(question, numbers))
            self._advance()
            untrained = len(self._store.read()) - self._trained.num_answers
            if self.config.train_every and untrained >= self.config.train_every and not self._task:
                self.start_training()

    def undo(self) -> None:
        """Remove the last answer of this session, and ask its question again.

        Raises:
            LookupError: There is no answer of this session.
        """
        with self._lock:
            if not self._asked:
                raise LookupError("there is no answer of this session to undo")
            question, numbers = self._asked[-1]
            self._store.remove(numbers)
            self._asked.pop()
            self._skipped.discard((question.row, question.class_index))
            if self._current is not None:
                self._queue.appendleft(self._current)
            self._ask(question)

    def start_training(self) -> None:
        """Train a head on all answers so far, in the background.

        Raises:
            LookupError: A head is being trained or written.
        """
        self._start("training", self._train)

    def start_writing(self) -> None:
        """Write the newest head into the run, where streams that watch it use it, in the background.

        Raises:
            LookupError: A head is being trained or written, or there is no new one.
        """
        if not self._has_new_head:
            raise LookupError("there is no new head: train one first")
        self._start("writing", self._write)

    def wait(self) -> None:
        """Wait until no head is being trained or written."""
        self._worker.submit(lambda: None).result()

    def get_part(self, number: int) -> Recording:
        """Return what the present question is about.

        Raises:
            LookupError: The question is not the present one.
        """
        with self._lock:
            if self._current is None or number != self._number:
                raise LookupError(f"question {number} is not the present one, {self._number}")
            part = self._parts[self._current.row]
            assert isinstance(part, Recording)  # synthetic background is never asked about
            return part

    @property
    def card(self) -> Card:
        """Card of the backbone, with the sample rate and the front end."""
        return self.run.backbone.card

    @property
    def channel(self) -> str | int:
        """Channel of recordings with several."""
        return parse_channel(self.run.trainer.config.channel)

    def close(self) -> None:
        """Wait for what is being trained or written, and close the file of answers."""
        self._worker.shutdown()
        self._store.close()

    def _start(self, task: str, work: Callable[[], None]) -> None:
        with self._lock:
            if self._task:
                raise LookupError(
                    f"a head is {'being written' if self._task == 'writing' else 'being trained'} already"
                )
            self._task, self._task_start, self._error = task, time.monotonic(), ""
            self._worker.submit(self._work, work)

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # The page shows it, and the review goes on.
            self._error = " ".join(str(error).split()) or type(error).__name__
            self._log(f"{self._task} has failed: {self._error}")
        finally:
            self._task = ""

    def _train(self) -> None:
        answers = self._store.read()
        start = time.monotonic()
        trained = self.run.trainer.train(answers)
        figures = self.run.trainer.compare(trained, answers)
        with self._lock:
            self._trained, self._figures, self._has_new_head = trained, figures, True
            self._queue.clear()  # The new head has other questions.
        self._log(f"trained on {len(answers)} answers in {time.monotonic() - start:.1f} s")

    def _write(self) -> None:
        start = time.monotonic()
        write_head(self.run.folder, self.run.backbone, self.run.trainer.head.model, self._trained)
        with self._lock:
            self._has_new_head = False
        self._log(f"wrote {self.run.folder.exported_head_path} in {time.monotonic() - start:.1f} s")

    def _read_value(self, question: Question, value: str) -> list[Answer]:
        name = self._class_names[question.class_index]
        kind, _, other = value.partition(":")
        if kind == "class" and other in self._class_names:
            answers = {name: other == name, other: True}
        elif value in ("yes", "no"):
            answers = {name: value == "yes"}
        elif value == "skip":
            answers = {}
        else:
            raise ValueError(f"`answer` must be yes, no, skip or class:NAME; received: {value[:100]!r}")
        file, start, end = self._get_part_of(question)
        created_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        origin = (self.config.reviewer, created_at, str(self.run.folder.path.resolve()))
        return [Answer(file, start, end, each, is_present, *origin) for each, is_present in answers.items()]

    def _get_part_of(self, question: Question) -> Part:
        part = self._parts[question.row]
        assert isinstance(part, Recording)
        return get_part(part)

    def _advance(self) -> None:
        """Ask the next question, after selecting more if none is left."""
        if not self._queue:
            self._queue.extend(self._select_questions())
        self._ask(self._queue.popleft() if self._queue else None)

    def _ask(self, question: Question | None) -> None:
        self._current = question
        self._number += 1

    def _select_questions(self) -> list[Question]:
        trainer, trained = self.run.trainer, self._trained
        answers = self._store.read()
        num_clips = len(trainer.clips)
        clips = apply_answers(trainer.clips, answers)
        is_known = np.zeros((len(self._parts), len(self._class_names)), bool)
        is_known[:num_clips] = clips.is_known[:num_clips]
        for part, known in zip(clips.audio[num_clips:], clips.is_known[num_clips:], strict=True):
            if isinstance(part, Recording) and get_part(part) in self._row_of_part:
                is_known[self._row_of_part[get_part(part)]] = known
        is_synthetic = np.array([not isinstance(part, Recording) for part in self._parts[:num_clips]], bool)
        is_known[:num_clips][is_synthetic] = False
        answered = {
            (self._row_of_part[answer.part], self._class_names.index(answer.class_name))
            for answer in answers
            if answer.part in self._row_of_part and answer.class_name in self._class_names
        }
        candidates = Candidates(
            embeddings=self._embeddings,
            probabilities=np.concatenate([trained.held_out[:num_clips], trained.pool]),
            is_known=is_known,
            targets=clips.targets[:num_clips],
            thresholds=trained.thresholds,
            classes=self._classes,
        )
        return select_questions(candidates, self.config.round_size, frozenset(answered | self._skipped))

    def _describe_question(self, question: Question) -> dict[str, Any]:
        part, trained = self._parts[question.row], self._trained
        assert isinstance(part, Recording)
        num_clips = len(self.run.trainer.clips)
        is_clip = question.row < num_clips
        probabilities = trained.held_out[question.row] if is_clip else trained.pool[question.row - num_clips]
        ranked = sorted(self._classes.tolist(), key=lambda k: -probabilities[k])[:MAX_CHOICES]
        labels = trained.clips.targets[question.row] if is_clip else np.zeros(len(self._class_names), bool)
        return {
            "number": self._number,
            "file": part.name,
            "start_seconds": part.start_seconds,
            "class": self._class_names[question.class_index],
            "probability": float(probabilities[question.class_index]),
            "threshold": float(trained.thresholds[question.class_index]),
            "reason": question.reason,
            "labels": [self._class_names[k] for k in np.flatnonzero(labels)],
            "suggestion": None if question.suggestion is None else self._class_names[question.suggestion],
            "choices": [self._class_names[k] for k in sorted(ranked)],
        }


def open_review(config: ReviewConfig, log: Callable[[str], None]) -> ReviewSession:
    """Open the review of a run: embed what is new, and train a head on the answers so far.

    Args:
        config: Configuration of the review.
        log: Function that takes one line of text.

    Raises:
        FileNotFoundError: There is no such run or recording.
        ValueError: The run cannot be reviewed, or its recordings have other classes now.
    """
    return ReviewSession(open_run(config), config, log)
