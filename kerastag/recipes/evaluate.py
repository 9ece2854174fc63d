"""Finished runs -> their figures, measured again from their checkpoints: `python -m kerastag evaluate RUN...`."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kerastag.metrics import Metrics
from kerastag.recipes._data import Data, load
from kerastag.recipes._run import figures_of, read_json, report, summary


def evaluate(folder: str | Path, data_dir: str | Path | None = None) -> Metrics:
    """A run's folder -> the figures of its checkpoints, predicted anew, on standard output.

    Args:
        folder: of a finished run.
        data_dir: folder of packs; None takes the run's own.

    Raises:
        FileNotFoundError: no such run, or its packs are gone.
        ValueError: the run is not finished, or its files are damaged.
    """
    run = _Kept.read(Path(folder), data_dir)
    figures = _measure(run)
    before = read_json(run.folder / "metrics.json")["ensemble"]["map"]
    print(f"measured when the run finished: mAP {before:.4f}", file=sys.stderr)
    return report(run.folder, summary(run.data, figures))


def evaluate_together(folders: Sequence[str | Path], data_dir: str | Path | None = None) -> Metrics:
    """Folders of runs -> the figures of the mean of their predictions, and each run's own, on standard output.

    Every run counts the same, whatever its system; its predictions are the mean of its checkpoints'.

    Args:
        folders: of finished runs that were measured on the same clips.
        data_dir: folder of packs; None takes each run's own.

    Raises:
        FileNotFoundError: no such run, or its packs are gone.
        ValueError: a run is not finished, has no network, or was measured on other clips or classes than the first.
    """
    total, first = np.zeros(()), None
    print("| run | mAP | mAUC | d-prime |\n| --- | --- | --- | --- |")
    for folder in folders:
        run = _Kept.read(Path(folder), data_dir)
        first = first or run
        _check_same_clips(first, run)
        predicted = _predicted(run)
        total = total + predicted
        _print_row(str(folder), figures_of(run.data, predicted))
    if first is None:
        raise ValueError("`folders` must hold a run, received none")
    together = figures_of(first.data, (total / len(folders)).astype(np.float32))
    _print_row(f"mean of the {len(folders)}", together)
    print(together.format_line())
    return together


def clips_of(folder: str | Path, data_dir: str | Path | None = None) -> Data:
    """A finished run -> its clips.

    Args:
        folder: of the run.
        data_dir: folder of packs; None takes the run's own.

    Raises:
        FileNotFoundError: no such run, or its packs are gone.
    """
    return _Kept.read(Path(folder), data_dir).data


def predictions_of(folder: str | Path, data_dir: str | Path | None = None) -> tuple[Data, np.ndarray]:
    """A finished run of a network -> its clips, and the mean of its checkpoints' probabilities of those to measure on.

    Args:
        folder: of the run.
        data_dir: folder of packs; None takes the run's own.

    Raises:
        FileNotFoundError: no such run, or its packs are gone.
        ValueError: the run is not finished, or has no network.
    """
    run = _Kept.read(Path(folder), data_dir)
    return run.data, _predicted(run)


@dataclass(frozen=True)
class _Kept:
    """A finished run, read back."""

    folder: Path
    recipe: ModuleType
    settings: Any
    data: Data

    @classmethod
    def read(cls, folder: Path, data_dir: str | Path | None) -> "_Kept":
        for name in ("settings.json", "metrics.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder}: no {name}: not the folder of a finished run")
        kept = read_json(folder / "settings.json")
        recipe = _recipe(folder, kept.pop("system"))
        names = {field.name for field in fields(recipe.Settings)}
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items() if name in names}
        settings = recipe.Settings(**values)
        found = data_dir or settings.data_dir or folder / "synthetic"
        return cls(folder, recipe, settings, load(settings, Path(found)))


def _measure(run: _Kept) -> dict[str, Any]:
    if not hasattr(run.recipe, "build"):
        return run.recipe.tag_and_measure(run.settings, run.data)
    from kerastag.recipes._network import evaluate_network

    return evaluate_network(run.settings, run.recipe.build, run.data, run.folder)


def _predicted(run: _Kept) -> np.ndarray:
    """A run -> its probabilities of the clips to measure on."""
    if not hasattr(run.recipe, "build"):
        raise ValueError(f"{run.folder}: {run.recipe.__name__} has no network whose predictions could be averaged")
    import keras

    from kerastag.recipes._network import kept_ensemble

    predicted = kept_ensemble(run.settings, run.recipe.build, run.data, run.folder)
    keras.backend.clear_session()  # the next run has a network of its own
    return predicted if predicted.ndim == 2 else predicted[..., 0]  # both streams, of several outputs


def _check_same_clips(first: _Kept, run: _Kept) -> None:
    if first.data.labels != run.data.labels:
        raise ValueError(f"{run.folder}: has other classes than {first.folder}")
    if not np.array_equal(first.data.targets, run.data.targets):
        raise ValueError(f"{run.folder}: was measured on other clips than {first.folder}")


def _print_row(name: str, figures: Metrics) -> None:
    print(f"| {name} | {figures.map:.4f} | {figures.mauc:.4f} | {figures.d_prime:.3f} |", flush=True)


def _recipe(folder: Path, system: str) -> ModuleType:
    try:
        return importlib.import_module(f"kerastag.recipes.{system}")
    except ImportError as error:
        raise ValueError(f"{folder}/settings.json: `system` {system!r} is no recipe of kerastag") from error
