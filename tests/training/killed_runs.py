"""Runs of a recipe in processes of their own, which can be killed at any moment.

Each is forked from a process that has imported TensorFlow and still has a single thread, since a new process would
spend most of its time on the import.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from kerastag.recipes import feature_attention

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras", "kerastag.training.trainer"])


class Kill(NamedTuple):
    """When to kill a run: just before or after the `count`-th rename to a file whose name ends with `name`."""

    name: str
    count: int
    before: bool


def start(arguments: Sequence[str], output: Path, kill: Kill | None = None) -> BaseProcess:
    """Start the recipe in a process of its own, whose output goes into a file."""
    process = _CONTEXT.Process(target=_run, args=(list(arguments), output, kill))
    process.start()
    return process


def _run(arguments: list[str], output: Path, kill: Kill | None) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if kill is not None:
        os.replace = _KillingReplace(kill)
    sys.exit(feature_attention.main(arguments))


class _KillingReplace:
    """A replacement of `os.replace` that kills its own process."""

    def __init__(self, kill: Kill) -> None:
        self.kill, self.replace, self.seen = kill, os.replace, 0

    def __call__(self, source: str | Path, target: str | Path) -> None:
        self.seen += str(target).endswith(self.kill.name)
        is_due = self.seen == self.kill.count
        if is_due and self.kill.before:
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(source, target)
        if is_due:
            os.kill(os.getpid(), signal.SIGKILL)
