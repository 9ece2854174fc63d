"""Runs of recipes, several at a time and each once, for the drivers of the tables."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastag.training.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """A run of a recipe.

    Attributes:
        recipe: Name of the recipe.
        folder: Run folder; the output goes into a `.log` file beside it.
        flags: Flags of the recipe without `run_dir`, by name; the values of `config` are given one by one.
        after: Folder of the run that must be finished first, since this one starts from its weights.
    """

    recipe: str
    folder: Path
    flags: Mapping[str, object]
    after: Path | None = None

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the finished run."""
        return RunFolder.open(self.folder).metrics()

    def start(self) -> subprocess.Popen:
        """Start the run in a process of its own."""
        flags = {**self.flags, "run_dir": self.folder}
        arguments = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as output:
            command = [sys.executable, "-m", "kerastag", "train", self.recipe, *arguments]
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def is_finished(folder: Path) -> bool:
    """Return whether a folder is that of a finished run."""
    try:
        return RunFolder.open(folder).is_finished
    except FileNotFoundError:
        return False


def run_all(runs: Sequence[Run], jobs: int) -> list[Run]:
    """Run what is not finished, in order, up to `jobs` at a time, and return the runs that failed.

    A run that starts from the weights of another one waits for it, and fails with it.
    """
    waiting = [run for run in runs if not is_finished(run.folder)]
    running: dict[subprocess.Popen, Run] = {}
    while waiting or running:
        for process in [process for process in running if process.poll() is not None]:
            run = running.pop(process)
            print(f"{'finished' if is_finished(run.folder) else 'FAILED  '}  {run.folder}", flush=True)
        ready = [run for run in waiting if run.after is None or is_finished(run.after)]
        for run in ready[: jobs - len(running)]:
            waiting.remove(run)
            print(f"started   {run.folder}, see {run.log}", flush=True)
            running[run.start()] = run
        if not running:
            for run in waiting:
                print(f"FAILED    {run.folder}: starts from {run.after}, which is not finished", flush=True)
            break
        time.sleep(0.2)
    return [run for run in runs if not is_finished(run.folder)]


def print_state(runs: Sequence[Run]) -> None:
    """Print which runs are finished."""
    for run in runs:
        print(f"{'finished' if is_finished(run.folder) else 'to do   '}  {run.folder}")
