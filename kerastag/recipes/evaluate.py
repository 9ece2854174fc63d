"""A finished run -> its figures, measured again from its checkpoints: `python -m kerastag evaluate RUN`."""

import importlib
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from kerastag.metrics import Metrics
from kerastag.recipes._data import Data, load
from kerastag.recipes._run import read_json, report, summary


def evaluate(folder: str | Path, data_dir: str | Path | None = None) -> Metrics:
    """A run's folder -> the figures of its checkpoints, predicted anew, on standard output.

    Args:
        folder: of a finished run.
        data_dir: folder of packs; None takes the run's own.

    Raises:
        FileNotFoundError: no such run, or its packs are gone.
        ValueError: the run is not finished, or its files are damaged.
    """
    folder = Path(folder)
    for name in ("settings.json", "metrics.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name}: not the folder of a finished run")
    kept = read_json(folder / "settings.json")
    recipe = _recipe(folder, kept.pop("system"))
    names = {field.name: field for field in fields(recipe.Settings)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items() if name in names}
    settings = recipe.Settings(**values)
    found = data_dir or settings.data_dir or folder / "synthetic"
    data = load(settings, Path(found))
    figures = _measure(recipe, settings, data, folder)
    before = read_json(folder / "metrics.json")["ensemble"]["map"]
    print(f"measured when the run finished: mAP {before:.4f}", file=sys.stderr)
    return report(folder, summary(data, figures))


def _measure(recipe: ModuleType, settings: Any, data: Data, folder: Path) -> dict[str, Any]:
    if not hasattr(recipe, "build"):
        return recipe.tag_and_measure(settings, data)
    from kerastag.recipes._network import evaluate_network

    return evaluate_network(settings, recipe.build, data, folder)


def _recipe(folder: Path, system: str) -> ModuleType:
    try:
        return importlib.import_module(f"kerastag.recipes.{system}")
    except ImportError as error:
        raise ValueError(f"{folder}/settings.json: `system` {system!r} is no recipe of kerastag") from error
