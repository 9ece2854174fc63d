"""Runs of recipes, several at a time and each once: what the drivers of the tables share."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A recipe with flags, and where its run goes.

    Args:
        recipe: module of `kerastag.recipes`.
        folder: of the run; what it prints goes into a file `.log` beside it.
        flags: of the recipe, but for `run_dir`.
        after: folder of the run that has to be finished before, whose weights this one begins with.
    """

    recipe: str
    folder: Path
    flags: Mapping[str, object]
    after: Path | None = None

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def figures(self) -> dict[str, Any]:
        """What the finished run measured."""
        return json.loads((self.folder / "metrics.json").read_text())

    def start(self) -> subprocess.Popen:
        flags = {**self.flags, "run_dir": self.folder}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as output:
            command = [sys.executable, "-m", f"kerastag.recipes.{self.recipe}", *words]
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def finished(folder: Path) -> bool:
    """Whether a run's folder has its figures, which are written last of all."""
    return (folder / "metrics.json").is_file()


def run_all(runs: Sequence[Run], jobs: int) -> list[Run]:
    """Make the runs that are not finished, in their order, up to `jobs` at once; returns those that failed.

    A run that begins with another one's weights waits for it, and fails with it.
    """
    waiting = [run for run in runs if not finished(run.folder)]
    busy: dict[subprocess.Popen, Run] = {}
    while waiting or busy:
        for process in [process for process in busy if process.poll() is not None]:
            run = busy.pop(process)
            print(f"{'finished' if finished(run.folder) else 'FAILED  '}  {run.folder}", flush=True)
        ready = [run for run in waiting if run.after is None or finished(run.after)]
        for run in ready[: jobs - len(busy)]:
            waiting.remove(run)
            print(f"started   {run.folder}, see {run.log}", flush=True)
            busy[run.start()] = run
        if not busy:
            for run in waiting:
                print(f"FAILED    {run.folder}: begins with {run.after}, which is not finished", flush=True)
            break
        time.sleep(0.2)
    return [run for run in runs if not finished(run.folder)]


def print_state(runs: Sequence[Run]) -> None:
    """What is finished, and what is to do."""
    for run in runs:
        print(f"{'finished' if finished(run.folder) else 'to do   '}  {run.folder}")
