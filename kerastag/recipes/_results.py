"""Finished runs, read back from their folders and put together over their seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Result", "Run", "read_results", "read_run"]

# Settings that say where and how often, not what: runs that differ in nothing else belong together.
_NOT_WHAT = ("config", "data_dir", "run_dir", "seed", "in_memory", "save_every", "evaluate_every", "jobs")


@dataclass(frozen=True)
class Run:
    """One run folder: its resolved settings and its metrics, as they were written."""

    path: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def seed(self) -> Any:
        return self.settings.get("seed")

    @property
    def data(self) -> str:
        """`synthetic`, `balanced` or `full`."""
        if self.settings.get("data_dir") is None:
            return "synthetic"
        return "full" if "unbal_train" in self.metrics["class_counts"] else "balanced"

    @property
    def names(self) -> list[str]:
        return self.metrics["labels"]["names"]

    @property
    def evaluated(self) -> str:
        """What the figures were measured on: `eval`, or `held out`."""
        return self.metrics.get("evaluated", "eval")

    @property
    def training_splits(self) -> list[str]:
        """The splits that it saw, less the one that it was measured on."""
        return [split for split in self.metrics["class_counts"] if split != self.settings.get("eval_pack", "eval")]

    @property
    def num_training_clips(self) -> int:
        """Clips of those splits, held-out ones among them."""
        return sum(sum(self.metrics["labels_per_clip"].get(split, {}).values()) for split in self.training_splits)

    def what(self) -> dict[str, Any]:
        """The settings that decide what was run, with the data that it was trained on."""
        return {
            **{key: value for key, value in self.settings.items() if key not in _NOT_WHAT},
            "data": self.data,
            "balanced_batches": (self.settings.get("balance") or 0) > 0,
            "training_clips": self.num_training_clips,
            "evaluated": self.evaluated,
        }


@dataclass(frozen=True)
class Result:
    """Runs of the same settings with other seeds."""

    runs: tuple[Run, ...]

    @cached_property
    def what(self) -> dict[str, Any]:
        return self.runs[0].what()

    @property
    def system(self) -> str:
        return self.what["system"]

    def figures(self, key: str, of: str = "ensemble") -> NDArray[np.float64]:
        """A figure (`map`, `mauc`, `d_prime`) of every run that has it, of `ensemble` or of the `last` checkpoint."""
        found = [(run.metrics.get(of) or {}).get(key) for run in self.runs]
        return np.array([value for value in found if value is not None], np.float64)

    def average_precision(self) -> NDArray[np.float64]:
        """(classes,) class-wise AP of the ensemble, the mean over the seeds, NaN where there is none."""
        return np.mean([_floats(run.metrics["ensemble"]["average_precision"]) for run in self.runs], axis=0)

    def training_average_precision(self) -> NDArray[np.float64] | None:
        """(classes,) class-wise AP on the training clips, the mean over the seeds; None where no run has it."""
        found = [_floats(run.metrics["train"]["average_precision"]) for run in self.runs if run.metrics.get("train")]
        return np.mean(found, axis=0) if found else None

    def training_counts(self) -> NDArray[np.int64]:
        """(classes,) training clips of each class, over all splits that were trained on."""
        counts = self.runs[0].metrics["class_counts"]
        return np.sum([counts[split] for split in self.runs[0].training_splits], axis=0)


def read_results(paths: Sequence[str | Path]) -> list[Result]:
    """Turns run folders into results, runs that differ only in their seed put together, in the order given.

    Raises:
        FileNotFoundError: a folder or a file in it is missing.
        ValueError: no folder, a broken one, one that is given twice, two of equal settings and seed, or runs whose
            classes differ.
    """
    if not paths:
        raise ValueError("`runs` must name a run folder, received none")
    groups: dict[str, list[Run]] = {}
    seen: dict[Path, str | Path] = {}
    first: Run | None = None
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            raise ValueError(f"{path}: this run folder is given twice")
        seen[place] = path
        run = read_run(path)
        first = first or run
        if run.names != first.names:
            raise ValueError(
                f"{path}: its {len(run.names)} classes are not the {len(first.names)} of {first.path}: "
                "make tables of the two apart"
            )
        group = groups.setdefault(json.dumps(run.what(), sort_keys=True), [])
        twin = next((other for other in group if other.seed == run.seed), None)
        if twin:
            raise ValueError(f"{path}: same settings and seed {run.seed} as {twin.path}: give one of the two")
        group.append(run)
    return [Result(tuple(group)) for group in groups.values()]


def read_run(path: str | Path) -> Run:
    """Turns a run folder into its settings and metrics.

    Raises:
        FileNotFoundError: the folder, `settings.json` or `metrics.json` is missing.
        ValueError: a file is no JSON object, lacks a key, or counts another number of classes than it names.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such run folder")
    settings, metrics = _read_json(path / "settings.json"), _read_json(path / "metrics.json")
    _require(path / "settings.json", settings, "system")
    for keys in ("ensemble", "class_counts", "labels_per_clip", "labels"):
        _require(path / "metrics.json", metrics, keys)
    for key in ("map", "mauc", "d_prime", "average_precision"):
        _require(path / "metrics.json", metrics["ensemble"], key, "ensemble.")
    for key in ("names", "mids"):
        _require(path / "metrics.json", metrics["labels"], key, "labels.")
    num_classes = len(metrics["labels"]["names"])
    lists = {f"class_counts.{split}": counts for split, counts in metrics["class_counts"].items()}
    lists["labels.mids"] = metrics["labels"]["mids"]
    for part in ("ensemble", "train"):
        if metrics.get(part):
            _require(path / "metrics.json", metrics[part], "average_precision", f"{part}.")
            lists[f"{part}.average_precision"] = metrics[part]["average_precision"]
    for key, values in lists.items():
        if not isinstance(values, list) or len(values) != num_classes:
            received = len(values) if isinstance(values, list) else type(values).__name__
            raise ValueError(
                f"{path / 'metrics.json'}: `{key}` must list {num_classes} classes as `labels.names`, "
                f"received {received}"
            )
    run = Run(path, settings, metrics)
    if not run.training_splits:
        raise ValueError(f"{path / 'metrics.json'}: `class_counts` must hold a training split")
    return run


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing: not a finished run folder")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON and bad UTF-8 alike
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must hold a JSON object, received {type(found).__name__}")
    return found


def _require(path: Path, found: Any, key: str, within: str = "") -> None:
    if not isinstance(found, dict) or key not in found:
        raise ValueError(f"{path}: key `{within}{key}` is missing")


def _floats(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
