"""What the recipes share: train on packs, measure, and leave a run folder that tells all."""

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import __version__
from kerastag.card import Card
from kerastag.data.batches import Batches, EmbeddingBatches
from kerastag.data.sampler import BalancedSampler
from kerastag.files import remove_stale_files, write_atomically, write_json
from kerastag.metrics import Metrics, class_report, compute_metrics
from kerastag.recipes._command import command
from kerastag.recipes._data import Data, load
from kerastag.training.settings import TrainingSettings

# Where and how often, not what: two runs that differ in these are the same run.
_NOT_WHAT = ("data_dir", "run_dir", "in_memory", "save_every")


@dataclass(kw_only=True)
class SystemSettings(TrainingSettings):
    """What training and measuring ask of the settings of any network."""

    def training_batches(self, data: Data, sampler: BalancedSampler) -> Batches:
        """What makes batch i of the clips that the sampler chooses."""
        raise NotImplementedError

    @property
    def prediction_batch_size(self) -> int:
        """Clips at a time where nothing is learned."""
        return self.batch_size

    @property
    def measures_training(self) -> bool:
        """Whether the clips that were trained on are measured too."""
        return False

    def card(self, data: Data) -> Card | None:
        """What goes into `model.keras` beside the weights."""
        return None

    def further_figures(self, data: Data, model: Any) -> dict[str, Any]:
        """What else is measured of the trained model: objects of `metrics.json` by name."""
        return {}


@dataclass(kw_only=True)
class NetworkSettings(SystemSettings):
    """Settings of the networks of paper 1; the defaults are the published run.

    Args:
        units: width of the hidden layers.
        depth: hidden layers.
        dropout: share of units dropped.
        normalize_input: batch normalization of the embeddings.
        single_segments: train on single segments that inherit the clip's tags (eq. 1).
    """

    units: int = 1024
    depth: int = 3
    dropout: float = 0.5
    normalize_input: bool = True
    single_segments: bool = False

    def network(self, data: Data) -> dict[str, Any]:
        """What the builders of `kerastag.models.embedding_models` take."""
        return {
            "num_classes": data.train.num_classes,
            "num_features": data.num_features,
            "units": self.units,
            "depth": self.depth,
            "dropout": self.dropout,
            "normalize_input": self.normalize_input,
        }

    def training_batches(self, data: Data, sampler: BalancedSampler) -> Batches:
        return EmbeddingBatches(data.train, sampler, data.train_rows, self.single_segments, self.mixup)

    @property
    def prediction_batch_size(self) -> int:
        return 512

    @property
    def measures_training(self) -> bool:
        return True


Build = Callable[[Any, Data], Any]


def main(
    settings_class: type,
    build: Build,
    recipe: str,
    argv: Sequence[str] | None = None,
    without_data: Callable[[Any, Build, str], None] | None = None,
) -> int:
    """A recipe's settings class and model builder -> the recipe's command.

    `without_data` runs it where there is no `--data_dir`; None is the synthetic set of embeddings.
    """

    def work(settings: Any) -> None:
        if settings.data_dir is not None:
            run_network(settings, build, recipe, Path(settings.data_dir))
        elif without_data is not None:
            without_data(settings, build, recipe)
        else:
            from kerastag.recipes._synthetic import run_synthetic

            run_synthetic(settings, build, recipe)

    return command(settings_class, work, recipe, argv)


def main_without_network(
    settings_class: type,
    work: Callable[[Any, Data], dict[str, Any]],
    recipe: str,
    argv: Sequence[str] | None = None,
) -> int:
    """A settings class and a function of settings and clips that gives figures -> the recipe's command."""

    def run(settings: Any) -> None:
        folder = open_run(settings, recipe)
        if _finished_before(folder) is not None:
            return
        data_dir = settings.data_dir
        if data_dir is None:
            from kerastag.recipes._synthetic import synthetic_packs

            data_dir = synthetic_packs(folder, settings.seed)
        data = load(settings, Path(data_dir))
        started = time.perf_counter()
        results = work(settings, data)
        finish(folder, data, {**results, "seconds": time.perf_counter() - started})

    return command(settings_class, run, recipe, argv)


def run_network(settings: SystemSettings, build: Build, recipe: str, data_dir: Path, quiet: bool = False) -> Metrics:
    """Settings, a builder and packs -> a trained, measured run in its folder; returns the figures of the ensemble."""
    folder = open_run(settings, recipe)
    if (before := _finished_before(folder, quiet)) is not None:
        return before
    from kerastag.recipes._network import train_network

    data = load(settings, data_dir)
    return finish(folder, data, train_network(settings, build, data, folder), quiet)


def open_run(settings: Any, recipe: str) -> Path:
    """Settings -> the run's folder with `settings.json` and `versions.json` in it.

    Raises:
        ValueError: the folder holds a run of other settings; the first that differs is named.
    """
    folder = Path(settings.run_dir) if settings.run_dir else Path("runs") / recipe / f"seed_{settings.seed}"
    resolved = {"system": recipe, **settings.as_dict()}
    path = folder / "settings.json"
    if path.exists():
        before = read_json(path)
        for name in sorted(before.keys() | resolved.keys()):
            if name not in _NOT_WHAT and before.get(name) != resolved.get(name):
                raise ValueError(
                    f"{folder}: a run of other settings: `{name}` was {before.get(name)!r}, "
                    f"now {resolved.get(name)!r}; give another `--run_dir`, or remove the folder"
                )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder}: `run_dir` must be a run's folder or an empty one; it has files and no settings.json"
        )
    remove_stale_files(folder)
    write_json(path, resolved)
    write_json(folder / "versions.json", versions())
    return folder


def versions() -> dict[str, str]:
    """The machine and the packages that a run was made with."""
    found = {"kerastag": __version__, "python": platform.python_version(), "machine": _processor()}
    for name in ("keras", "tensorflow", "jax", "numpy", "h5py", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def figures_of(data: Data, probabilities: np.ndarray) -> Metrics:
    """Probabilities of the clips to measure on, the first of several streams' -> their figures."""
    clipwise = probabilities if probabilities.ndim == 2 else probabilities[..., 0]
    return compute_metrics(data.targets, clipwise, data.labels.names)


def summary(data: Data, results: Mapping[str, Any]) -> dict[str, Any]:
    """What a run found, and what it was measured on -> the object of `metrics.json`."""
    return {
        **{name: v.as_dict() if isinstance(v, Metrics) else v for name, v in results.items()},
        "evaluated": data.evaluated,
        "class_counts": data.class_counts,
        "labels_per_clip": data.labels_per_clip,
        "labels": {"mids": list(data.labels.mids), "names": list(data.labels.names)},
    }


def finish(folder: Path, data: Data, results: Mapping[str, Any], quiet: bool = False) -> Metrics:
    """What a run found -> `metrics.json`, `classes.csv` and `table.md`, and the table on standard output.

    Args:
        folder: of the run.
        data: what it was measured on.
        results: `ensemble` and, for networks, `last` and `train` (`Metrics`); anything else JSON can hold.
        quiet: print nothing.
    """
    ensemble: Metrics = results["ensemble"]
    classes = class_report(ensemble, data.labels.names)
    write_atomically(folder / "classes.csv", lambda path: path.write_text(classes))
    if ensemble.left_out:
        names = ", ".join(data.labels.names[k] for k in ensemble.left_out)
        print(f"left out, no positive clip in {data.evaluated}: {names}", file=sys.stderr)
    found = summary(data, results)
    write_atomically(folder / "table.md", lambda path: path.write_text("\n".join(_table(found)) + "\n"))
    # Last of all: a run is finished when its figures are there.
    write_json(folder / "metrics.json", found)
    return report(folder, found, quiet)


def report(folder: Path, metrics: Mapping[str, Any], quiet: bool = False) -> Metrics:
    """The object of `metrics.json` -> its table on standard output, with the figures as the last line."""
    ensemble = _metrics(metrics["ensemble"])
    if not quiet:
        print("\n".join([*_table(metrics), f"run folder: {folder}", ensemble.line()]))
    return ensemble


def _table(metrics: Mapping[str, Any]) -> list[str]:
    rows = {"scores": metrics["ensemble"]}
    if metrics.get("last"):
        rows = {
            "mean of the checkpoints' predictions": metrics["ensemble"],
            "last checkpoint (model.keras)": metrics["last"],
            **{f"{name} stream alone": metrics[name] for name in ("global", "local") if metrics.get(name)},
        }
    lines = [f"| {metrics['evaluated']} | mAP | mAUC | d-prime |", "| --- | --- | --- | --- |"]
    for name, found in rows.items():
        lines.append(f"| {name} | {found['map']:.4f} | {found['mauc']:.4f} | {_decimal(found['d_prime'])} |")
    return [*lines, *localization_lines(metrics)]


def localization_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The object of `metrics.json` -> a table of where the windows lie; nothing where none were chosen."""
    if not metrics.get("localization"):
        return []
    from kerastag.metrics import Localization

    table = Localization.from_dict(metrics["localization"]).table().splitlines()
    return ["", "windows of the classes that sound:", "", *(f"    {line}" for line in table), ""]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file -> its object.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error


def _finished_before(folder: Path, quiet: bool = False) -> Metrics | None:
    """The figures of a run that was finished earlier, reported again; None for one that was not."""
    path = folder / "metrics.json"
    if not path.exists():
        return None
    print(f"{folder}: finished before; its results stand", file=sys.stderr)
    return report(folder, read_json(path), quiet)


def _metrics(found: Mapping[str, Any]) -> Metrics:
    def numbers(values: list[float | None]) -> np.ndarray:
        return np.array([np.nan if v is None else v for v in values])

    return Metrics(
        map=found["map"],
        mauc=found["mauc"],
        d_prime=np.inf if found["d_prime"] is None else found["d_prime"],
        average_precision=numbers(found["average_precision"]),
        auc=numbers(found["auc"]),
        num_positives=np.array(found["num_positives"]),
        num_clips=found["num_clips"],
        left_out=tuple(found["left_out"]),
    )


def _decimal(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"


def _processor() -> str:
    """The processor's name with its cores."""
    import os

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
