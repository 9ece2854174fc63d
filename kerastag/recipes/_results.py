"""Finished runs, read from their folders and grouped over their seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerastag.training.run_folder import NOT_IDENTITY, RunFolder

__all__ = ["PUBLISHED_SIZE", "Result", "Run", "describe_results", "read_results", "read_run"]

PUBLISHED_SIZE = {"units": 1024, "depth": 3, "phi": "sigmoid", "width": 1.0}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its metrics."""

    folder: RunFolder
    metrics: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def seed(self) -> Any:
        return self.folder.config.get("seed")

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return self.metrics["labels"]["names"]

    @property
    def training_splits(self) -> list[str]:
        """The packs of the run, except the one that it was evaluated on."""
        return [name for name in self.metrics["class_counts"] if name != self.folder.config.get("eval_pack", "eval")]

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes the run from others, except its seed: system, configuration and data."""
        config = self.folder.config
        trained_on = "full" if "unbal_train" in self.metrics["class_counts"] else "balanced"
        labels_per_clip = [self.metrics["labels_per_clip"].get(name, {}) for name in self.training_splits]
        return {
            "system": self.folder.system,
            **{name: value for name, value in config.items() if name not in (*NOT_IDENTITY, "seed")},
            "data": "synthetic" if config.get("data_dir") is None else trained_on,
            "balanced_batches": (config.get("balance") or 0) > 0,
            "training_clips": sum(sum(counts.values()) for counts in labels_per_clip),  # those held out included
            "evaluated": self.metrics.get("evaluated", "eval"),
        }


@dataclass(frozen=True)
class Result:
    """Runs that differ only in their seed."""

    runs: tuple[Run, ...]

    @cached_property
    def identity(self) -> dict[str, Any]:
        return self.runs[0].identity()

    @property
    def system(self) -> str:
        return self.identity["system"]

    @property
    def names(self) -> list[str]:
        return self.runs[0].names

    def mean_map(self) -> float:
        return float(self.values("map").mean())

    def values(self, metric: str, part: str = "ensemble") -> NDArray[np.float64]:
        """Return a metric of the ensemble of checkpoints, the `last` one, or one stream, of every run that has it."""
        values = [(run.metrics.get(part) or {}).get(metric) for run in self.runs]
        return np.array([value for value in values if value is not None], np.float64)

    def average_precision(self) -> NDArray[np.float64]:
        """Return the AP of each class, averaged over the seeds, `(classes,)`; NaN where there is none."""
        return np.mean([_to_array(run.metrics["ensemble"]["average_precision"]) for run in self.runs], axis=0)

    def training_average_precision(self) -> NDArray[np.float64] | None:
        """Return the AP of each class on the training clips, averaged over the seeds; None where no run has it."""
        values = [_to_array(run.metrics["train"]["average_precision"]) for run in self.runs if run.metrics.get("train")]
        return np.mean(values, axis=0) if values else None

    def training_counts(self) -> NDArray[np.int64]:
        """Return the number of training clips of each class, `(classes,)`."""
        counts = self.runs[0].metrics["class_counts"]
        return np.sum([counts[name] for name in self.runs[0].training_splits], axis=0)


def read_results(paths: Sequence[str | Path]) -> list[Result]:
    """Read folders of finished runs and group the runs that differ only in their seed.

    Raises:
        FileNotFoundError: A folder or a file in it does not exist.
        ValueError: There is no folder, a run is damaged, a folder or a run is given twice, or classes differ.
    """
    if not paths:
        raise ValueError("`runs` must hold at least one run folder; received: none")
    groups: dict[str, list[Run]] = {}
    resolved: set[Path] = set()
    first: Run | None = None
    for path in paths:
        if Path(path).resolve() in resolved:
            raise ValueError(f"{path}: this run folder is given twice")
        resolved.add(Path(path).resolve())
        run = read_run(path)
        first = first or run
        if run.names != first.names:
            raise ValueError(
                f"{path}: its {len(run.names)} classes differ from the {len(first.names)} of {first.path}: "
                "make separate tables"
            )
        group = groups.setdefault(json.dumps(run.identity(), sort_keys=True), [])
        twin = next((other for other in group if other.seed == run.seed), None)
        if twin:
            raise ValueError(f"{path}: has the same configuration and seed {run.seed} as {twin.path}: leave one out")
        group.append(run)
    return [Result(tuple(group)) for group in groups.values()]


def describe_results(results: Sequence[Result]) -> list[str]:
    """Describe each result by its system and the values in which it differs from results of the same system."""
    titles = []
    for result in results:
        same = [other.identity for other in results if other.system == result.system]
        varying = {name: v for name, v in result.identity.items() if any(other.get(name) != v for other in same)}
        varying.pop("balanced_batches", None)  # follows from `balance`
        titles.append(", ".join([result.system, *(f"{name} {value}" for name, value in varying.items())]))
    return titles


def read_run(path: str | Path) -> Run:
    """Read a finished run and check its metrics.

    Raises:
        FileNotFoundError: There is no such folder, or it is not that of a finished run.
        ValueError: A file is damaged, lacks a key, or has another number of classes than it names.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such run folder")
    folder = RunFolder.open(path)
    file = path / "metrics.json"
    metrics = folder.metrics(
        *("class_counts", "labels_per_clip", "labels.names", "labels.mids"),
        *(f"ensemble.{name}" for name in ("map", "mauc", "d_prime", "average_precision")),
    )
    parts = ["ensemble"]
    if metrics.get("train"):
        parts.append("train")
        folder.metrics("train.average_precision")
    lists = {f"class_counts.{name}": counts for name, counts in metrics["class_counts"].items()}
    lists["labels.mids"] = metrics["labels"]["mids"]
    lists |= {f"{part}.average_precision": metrics[part]["average_precision"] for part in parts}
    num_classes = len(metrics["labels"]["names"])
    for key, values in lists.items():
        if len(values) != num_classes:
            allowed = f"list {num_classes} classes as `labels.names`"
            raise ValueError(f"{file}: `{key}` must {allowed}; received: {len(values)}")
    balance = folder.config.get("balance")
    if balance is not None and not isinstance(balance, int | float):
        raise ValueError(f"{path / 'config.json'}: `balance` must be a number; received: {balance!r}")
    run = Run(folder, metrics)
    if not run.training_splits:
        raise ValueError(f"{file}: `class_counts` must hold a training split")
    return run


def _to_array(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
