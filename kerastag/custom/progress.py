"""Progress of the stages of a run on standard error: a bar in a terminal, occasional lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "show_progress"]

_REFRESH_SECONDS = 1.0
_FIRST_LINE_SECONDS, _LINE_SECONDS = 2.0, 10.0


class Progress:
    """The progress of a stage.

    Args:
        task: What is done, such as `embedding`.
        total: Number of steps; None where it is not known.
        unit: Plural name of the steps.

    Attributes:
        count: Number of steps that are done.
    """

    def __init__(self, task: str, total: int | None = None, unit: str = "steps") -> None:
        self.task, self.total, self.unit, self.count = task, total, unit, 0
        self._start = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self.count += steps

    def write(self, line: str) -> None:
        """Write a line on standard error, above the bar if there is one."""
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)

    def __str__(self) -> str:
        parts = [] if self.total is None else [f"{self.count:,} of {self.total:,} {self.unit}"]
        return f"{self.task}: {', '.join([*parts, f'{time.monotonic() - self._start:.0f} s'])}"


@contextmanager
def show_progress(task: str, total: int | None = None, unit: str = "steps") -> Iterator[Progress]:
    """Show the progress of a block, with the time that it has taken, even where it makes no step for a while.

    In a terminal it is a bar that moves every second. Elsewhere it is one line after two seconds, one each ten seconds,
    and one at the end.

    Args:
        task: What is done, such as `embedding`.
        total: Number of steps; None where it is not known.
        unit: Plural name of the steps.

    >>> with show_progress("embedding", total=2, unit="clips") as progress:
    ...     for _ in range(2):
    ...         progress.advance()
    >>> print(progress)
    embedding: 2 of 2 clips, 0 s
    """
    progress, is_done = Progress(task, total, unit), threading.Event()
    run = _show_bar if sys.stderr.isatty() else _write_lines
    thread = threading.Thread(target=run, args=(progress, is_done.wait), daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        is_done.set()
        thread.join()


def _show_bar(progress: Progress, wait: Callable[[float], bool]) -> None:
    from tqdm import tqdm

    options: dict[str, Any] = {}
    if progress.total is None:
        options = {"bar_format": "{desc} [{elapsed}]", "leave": False}
    with tqdm(
        desc=progress.task,
        total=progress.total,
        unit=f" {progress.unit}",
        dynamic_ncols=True,
        file=sys.stderr,
        **options,
    ) as bar:
        is_done = False
        while not is_done:
            is_done = wait(_REFRESH_SECONDS)
            bar.update(progress.count - bar.n)
            bar.refresh()


def _write_lines(progress: Progress, wait: Callable[[float], bool]) -> None:
    if wait(_FIRST_LINE_SECONDS):
        return
    print(progress, file=sys.stderr, flush=True)
    while not wait(_LINE_SECONDS):
        print(progress, file=sys.stderr, flush=True)
    print(progress, file=sys.stderr, flush=True)
