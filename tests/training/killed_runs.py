"""Runs of a recipe in processes of their own, which can be killed at a chosen moment or at any.

They are forked, each for itself, from a process that has imported TensorFlow and has one thread still: a process that
begins with nothing spends most of its time on that.
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
_CONTEXT.set_forkserver_preload(["tensorflow", "keras", "kerastag.recipes._network", "kerastag.recipes._run"])


class Death(NamedTuple):
    """When a file whose name ends so is renamed for the `count`-th time: just before, or just after."""

    name: str
    count: int
    before: bool


def start(arguments: Sequence[str], said: Path, death: Death | None = None) -> BaseProcess:
    """The recipe with these arguments in a process of its own; what it says goes into a file."""
    process = _CONTEXT.Process(target=_run, args=(list(arguments), said, death))
    process.start()
    return process


def _run(arguments: list[str], said: Path, death: Death | None) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if death is not None:
        os.replace = _Dying(death)
    sys.exit(feature_attention.main(arguments))


class _Dying:
    """`os.replace`, which kills its own process for good."""

    def __init__(self, death: Death) -> None:
        self.death, self.replace, self.seen = death, os.replace, 0

    def __call__(self, source: str | Path, target: str | Path) -> None:
        self.seen += str(target).endswith(self.death.name)
        dies = self.seen == self.death.count
        if dies and self.death.before:
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(source, target)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
