"""Jobs: the work of requests, in a bounded number of threads, with a bounded queue and a time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kerastag.serving.errors import RequestError

__all__ = ["Job", "JobRunner"]

Result = TypeVar("Result")


class Job:
    """The time limit of a request, and whether its client has left; used by the thread that does the work."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def remaining_seconds(self) -> float:
        """Time until the limit, at least 0 s."""
        return max(0.0, self._deadline - time.monotonic())

    def cancel(self) -> None:
        """End the work soon, because nobody waits for it."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise a `RequestError` if the time is over or the client has left."""
        if self._cancelled.is_set():
            raise RequestError(499, "client_closed_request", "the client has closed the connection")
        if not self.remaining_seconds:
            raise self.create_timeout()

    def create_timeout(self) -> RequestError:
        """Create the error of a job whose time is over."""
        return RequestError(504, "timeout", f"the request must take at most {self._seconds:g} s; it takes longer")


class JobRunner:
    """Threads that do the work of requests, first come, first served.

    Args:
        num_running: Number of jobs at the same time.
        max_waiting: Number of jobs that may wait; another one is refused with status 429.
        timeout_seconds: Time limit of a job, waiting included, seconds.
    """

    def __init__(self, num_running: int, max_waiting: int, timeout_seconds: float) -> None:
        self._executor = ThreadPoolExecutor(num_running, thread_name_prefix="job")
        self._max_jobs, self._num_running, self._timeout_seconds = (
            num_running + max_waiting,
            num_running,
            timeout_seconds,
        )
        self.num_jobs = 0
        """Number of jobs that run or wait."""

    @property
    def num_waiting(self) -> int:
        """Number of jobs that wait."""
        return max(0, self.num_jobs - self._num_running)

    def check_capacity(self) -> None:
        """Raise a `RequestError` with status 429 if no more jobs may wait."""
        if self.num_jobs >= self._max_jobs:
            raise RequestError(429, "queue_full", f"{self.num_jobs} requests are waiting; try again later", 1.0)

    async def run(
        self,
        work: Callable[[Job], Result],
        wait_for_disconnect: Callable[[], Awaitable[None]],
        finish: Callable[[], object] = lambda: None,
    ) -> Result:
        """Run `work(job)` in a thread, unless the client leaves first.

        Args:
            work: Function that does the work, and calls `job.check` from time to time.
            wait_for_disconnect: Coroutine function that returns when the client has left.
            finish: Function that is called after the work, even if nobody waits for it any more.

        Raises:
            RequestError: The queue is full, the time is over, or the client has left; or `work` raises it.
        """
        try:
            self.check_capacity()
        except RequestError:
            finish()
            raise
        job = Job(self._timeout_seconds)
        self.num_jobs += 1

        def run() -> Result:
            job.check()
            return work(job)

        def end(future: asyncio.Future[Result]) -> None:
            self.num_jobs -= 1
            finish()
            if not future.cancelled():
                future.exception()  # Otherwise asyncio reports an error that nobody waits for.

        future = asyncio.get_running_loop().run_in_executor(self._executor, run)
        future.add_done_callback(end)
        watcher = asyncio.ensure_future(wait_for_disconnect())
        try:
            timeout = job.remaining_seconds + 1
            await asyncio.wait((future, watcher), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if watcher.done():
                raise RequestError(499, "client_closed_request", "the client has closed the connection")
            raise job.create_timeout()
        finally:
            job.cancel()
            watcher.cancel()

    def close(self) -> None:
        """Wait for the threads to end."""
        self._executor.shutdown(cancel_futures=True)
