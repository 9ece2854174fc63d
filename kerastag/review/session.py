"""A review of one run: its questions, its answers, and the heads that are trained on them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.answers import Answer, AnswerStore
from kerastag.data.audio_lists import Recording
from kerastag.review.config import ReviewConfig
from kerastag.review.deployment import write_head
from kerastag.review.questions import Question
from kerastag.review.retraining import get_part
from kerastag.review.run import ReviewedRun, open_run
from kerastag.review.selector import QuestionSelector

__all__ = ["ReviewSession", "open_review"]


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
        self._selector = QuestionSelector(run.trainer)
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="review")
        self._trained, self._trained_answers = run.trainer.baseline, frozenset[Answer]()
        self._figures: dict[str, Any] | None = None
        self._task, self._task_start, self._error = "", 0.0, ""
        self._has_new_head = self._is_wanted = self._is_in_use = False
        self._queue: deque[Question] = deque()
        self._history: list[_Asked] = []
        self._skipped: set[tuple[int, int]] = set()
        self._current: Question | None = None
        self._number = 0
        if self._store.read():
            self._start("training", self._train)
            self.wait()
        if self._current is None:
            self._advance()

    def describe(self) -> dict[str, Any]:
        """Describe the present question, the progress and the newest head, as JSON values."""
        with self._lock:
            answers, question = self._store.read(), None
            if self._current is not None:
                question = {"number": self._number, **self._selector.describe(self._current, self._trained)}
            return {
                "run": str(self.run.folder.path),
                "reviewer": self.config.reviewer,
                "classes": self._selector.class_names,
                "question": question,
                "answered": len({answer.part for answer in answers}),
                "in_session": len(self._history),
                "round_rest": len(self._queue),
                "untrained": self._count_untrained(answers),
                "can_undo": bool(self._history),
                "task": self._task,
                "task_seconds": time.monotonic() - self._task_start if self._task else 0.0,
                "error": self._error,
                "figures": self._figures,
                "has_new_head": self._has_new_head and self._task != "training",
                "can_write": not self._is_wanted and (self._has_new_head or self._task == "training"),
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
            self._history.append(_Asked(question, numbers))
            self._advance()
            num_untrained, limit = self._count_untrained(self._store.read()), self.config.train_every
            if limit and num_untrained >= limit and not self._task:
                self.start_training()

    def undo(self) -> None:
        """Remove the last answer of this session, and ask its question again.

        Raises:
            LookupError: There is no answer of this session.
        """
        with self._lock:
            if not self._history:
                raise LookupError("there is no answer of this session to undo")
            question, numbers = self._history[-1]
            self._store.remove(numbers)
            self._history.pop()
            self._skipped.discard((question.row, question.class_index))
            if self._current is not None:
                self._queue.appendleft(self._current)
            self._ask(question)

    def start_training(self) -> None:
        """Train a head on all answers so far, and measure it, in the background.

        Raises:
            LookupError: A head is being trained, measured or written.
        """
        with self._lock:
            if self._task:
                raise LookupError("a head is being trained, measured or written already")
            self._start("training", self._train)

    def start_writing(self) -> None:
        """Write the newest head into the run, where streams that watch it use it, in the background.

        A head that is being trained is written before it is measured. When it is measured and so has its own
        thresholds, it is written again.

        Raises:
            LookupError: There is no new head, or one is being written.
        """
        with self._lock:
            if self._is_wanted or not (self._has_new_head or self._task == "training"):
                raise LookupError("there is no new head to write: train one first")
            self._is_wanted = True
            if not self._task:
                self._start("writing", self._write_if_wanted)

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
            return self._selector.get_recording(self._current)

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
        self._task, self._task_start, self._error = task, time.monotonic(), ""
        self._worker.submit(self._work, work)

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # The page shows it, and the review goes on.
            self._error = " ".join(str(error).split()) or type(error).__name__
            self._log(f"{self._task} has failed: {self._error}")
            self._is_wanted = False
        finally:
            with self._lock:
                self._task = ""
                if self._is_wanted:  # since the last look at it
                    self._start("writing", self._write_if_wanted)

    def _train(self) -> None:
        answers, trainer = self._store.read(), self.run.trainer
        start = time.monotonic()
        trained = trainer.train(answers, self._trained)
        with self._lock:
            self._trained, self._trained_answers = trained, frozenset(answers)
            self._has_new_head, self._is_in_use, self._task = True, False, "measuring"
            self._queue.clear()  # The new head has other questions.
            if self._current is None:
                self._advance()
        self._log(f"trained on {len(answers)} answers in {time.monotonic() - start:.1f} s")
        measured = trainer.cross_validate(trained, self._write_if_wanted)
        figures = trainer.compare(measured, answers)
        with self._lock:
            self._trained, self._figures, self._has_new_head = measured, figures, True
            self._is_wanted = self._is_wanted or self._is_in_use
        self._log(f"measured in {time.monotonic() - start:.1f} s")
        self._write_if_wanted()

    def _write_if_wanted(self) -> None:
        if not self._is_wanted:
            return
        start, task = time.monotonic(), self._task
        self._task = "writing"
        write_head(self.run.folder, self.run.backbone, self.run.trainer, self._trained)
        with self._lock:
            self._task, self._has_new_head, self._is_wanted, self._is_in_use = task, False, False, True
        self._log(f"wrote {self.run.folder.exported_head_path} in {time.monotonic() - start:.1f} s")

    def _count_untrained(self, answers: list[Answer]) -> int:
        """Count the answers that were given or removed since the last training."""
        return len(self._trained_answers.symmetric_difference(answers))

    def _read_value(self, question: Question, value: str) -> list[Answer]:
        name, names = self._selector.get_class_name(question), self._selector.class_names
        kind, _, other = value.partition(":")
        if kind == "class" and other in names:
            answers = {name: other == name, other: True}
        elif value in ("yes", "no"):
            answers = {name: value == "yes"}
        elif value == "skip":
            answers = {}
        else:
            raise ValueError(f"`answer` must be yes, no, skip or class:NAME; received: {value[:100]!r}")
        file, start, end = get_part(self._selector.get_recording(question))
        created_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        origin = (self.config.reviewer, created_at, str(self.run.folder.path.resolve()))
        return [Answer(file, start, end, each, is_present, *origin) for each, is_present in answers.items()]

    def _advance(self) -> None:
        """Ask the next question, after selecting more if none is left."""
        if not self._queue:
            answers = self._store.read()
            self._queue.extend(self._selector.select(self._trained, answers, self._skipped, self.config.round_size))
        self._ask(self._queue.popleft() if self._queue else None)

    def _ask(self, question: Question | None) -> None:
        self._current = question
        self._number += 1


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
