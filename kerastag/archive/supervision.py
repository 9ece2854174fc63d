"""A worker process that is started again when it is lost, so that a recording which kills it costs only itself."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kerastag.archive.failures import Failure, describe_lost_process
from kerastag.archive.reading import ListedFile
from kerastag.archive.settings import Job
from kerastag.archive.worker import NUM_AHEAD, Done, Part, Ready, Refused, Request

__all__ = ["Worker"]

_NUM_TRIES = 3
_NUM_STARTS = 5
_START_SECONDS = 300.0
_CHECK_SECONDS = 1.0  # between looks at a deadline
_COMMAND = (sys.executable, "-c", "from kerastag.archive.worker import main; main()")
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


class Worker:
    """A process with the model, which is started at the first recording.

    A process may crash, be killed, or make no progress. The recordings that were in it are then processed again one by
    one: one that makes no progress, or is lost in three processes, has failed. What becomes of a recording therefore
    does not depend on the others.

    Args:
        job: What the process needs.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: _Deadline | None = None
        self._ready: Ready | None = None

    @property
    def ready(self) -> Ready:
        """What the process sent when it had loaded the model; starts the process.

        Raises:
            ValueError: The model cannot be loaded, or does not fit the settings.
            RuntimeError: The process cannot be started.
        """
        if self._ready is None:
            self._ensure_process()
        assert self._ready is not None  # for the type checker: the process has sent it
        return self._ready

    def process(self, files: Sequence[ListedFile]) -> Iterator[Part | Done | Failure | None]:
        """Yield the messages about recordings in order: parts, and then one end for each.

        None means that the parts of the current recording so far are void: it is processed again.
        """
        first = num_alone = num_losses = 0
        while first < len(files):
            try:
                for message in self._request(Request(list(files[first:]), num_alone)):
                    yield message
                    if not isinstance(message, Part):
                        first, num_alone, num_losses = first + 1, max(0, num_alone - 1), 0
            except _LostProcess as loss:
                yield None
                num_losses += num_alone > 0
                if num_alone and (loss.timed_out or num_losses == _NUM_TRIES):
                    yield describe_lost_process(str(loss), timed_out=loss.timed_out)
                    first, num_alone, num_losses = first + 1, num_alone - 1, 0
                elif not num_alone:
                    num_alone = 1 + NUM_AHEAD

    def close(self) -> None:
        """End the process."""
        if self._deadline is not None:
            self._deadline.close()
            self._deadline = None
        if self._process is not None:
            _kill(self._process)
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            self._process.wait()
            self._process = None

    def _ensure_process(self) -> None:
        for _ in range(_NUM_STARTS):
            if self._process is not None:
                return
            with contextlib.suppress(_LostProcess):
                self._start()
        if self._process is None:
            raise RuntimeError(
                f"{self._job.model}: the process that loads it ended in {_NUM_STARTS} of {_NUM_STARTS} tries"
            )

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_THREADS, "PYTHONPATH": paths},
            start_new_session=True,  # for `_kill`; Ctrl+C and the signals of job schedulers do not reach it
        )
        self._deadline = _Deadline(self._process, min(_CHECK_SECONDS, self._job.time_limit / 4))
        self._send(self._job)
        answer = self._receive(_START_SECONDS)
        if isinstance(answer, Refused):
            self.close()
            raise answer.error
        self._ready = answer

    def _request(self, request: Request) -> Iterator[Part | Done | Failure]:
        self._ensure_process()
        self._send(request)
        num_ends = 0
        while num_ends < len(request.files):
            message = self._receive(self._job.time_limit)
            num_ends += not isinstance(message, Part)
            yield message

    def _send(self, message: Any) -> None:
        try:
            assert self._process is not None  # for the type checker: it was started
            assert self._process.stdin is not None
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            self._lose()

    def _receive(self, seconds: float) -> Any:
        process, deadline = self._process, self._deadline
        assert process is not None  # for the type checker: both were started
        assert process.stdout is not None
        assert deadline is not None
        deadline.start(seconds)
        try:
            return pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError, OSError):
            self._lose(seconds if deadline.has_passed else None)
        finally:
            deadline.stop()

    def _lose(self, seconds: float | None = None) -> None:
        assert self._process is not None  # for the type checker: it was started
        process = self._process
        if seconds is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        self.close()
        if seconds is not None:
            raise _LostProcess(f"no progress in {seconds:g} s", timed_out=True)
        code = process.returncode
        reason = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise _LostProcess(f"the process that tagged it ended with {reason} in {_NUM_TRIES} of {_NUM_TRIES} tries")


class _Deadline:
    """A thread that kills a process which makes no progress; a thread for each message would take more time.

    Attributes:
        has_passed: Whether the last deadline that was started has passed.
    """

    def __init__(self, process: subprocess.Popen[bytes], check_seconds: float) -> None:
        self._process, self._check_seconds = process, check_seconds
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._end, self.has_passed = math.inf, False
        threading.Thread(target=self._run, daemon=True).start()

    def start(self, seconds: float) -> None:
        with self._lock:
            self._end, self.has_passed = time.monotonic() + seconds, False

    def stop(self) -> None:
        with self._lock:
            self._end = math.inf

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._check_seconds):
            with self._lock:
                if time.monotonic() >= self._end:
                    self.has_passed = True
                    _kill(self._process)
                    return


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with those that it has started, such as ffmpeg."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class _LostProcess(Exception):
    """The process has ended, or was ended because it made no progress."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
