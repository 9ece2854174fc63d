"""Evaluate finished runs again from their files, one by one or as an ensemble."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics
from kerastag.recipes._papers import recipe_names
from kerastag.recipes._recipe import Recipe
from kerastag.training.config import checkpoint_steps
from kerastag.training.report import METRIC_NAMES, format_metrics_row, run_metrics
from kerastag.training.run_data import RunData, load_run_data
from kerastag.training.run_folder import RunFolder

if TYPE_CHECKING:
    from kerastag.training.evaluation import CheckpointEnsemble

__all__ = [
    "FinishedRun",
    "check_same_clips",
    "compute_run_metrics",
    "evaluate_ensemble",
    "evaluate_run",
    "find_recipe",
    "load_run",
    "predict_clips",
    "predict_run",
]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a recipe.

    Attributes:
        folder: Run folder.
        recipe: Recipe that was run.
        config: Configuration of the run.
        data: Clips of the run.
    """

    folder: RunFolder
    recipe: Recipe
    config: Any
    data: RunData


def load_run(path: str | Path, data_dir: str | Path | None = None, eval_pack: str | None = None) -> FinishedRun:
    """Open a finished run and its clips.

    Args:
        path: Run folder.
        data_dir: Folder of packs; by default, that of the run.
        eval_pack: Name of the pack to evaluate on; by default, the clips that the run was evaluated on.

    Raises:
        FileNotFoundError: There is no such run, it is not finished, or its packs do not exist.
        ValueError: A file of the run is damaged; or `eval_pack` is given for a system without a network whose run held
            clips out, which it would be fitted to.
    """
    folder = RunFolder.open(path)
    folder.metrics()
    recipe = find_recipe(folder)
    config = folder.read_config(recipe.config, recipe.defaults)
    data_dir = data_dir or config.data_dir or folder.synthetic_data_dir
    if eval_pack:
        if config.hold_out and recipe.compute_scores is not None:
            raise ValueError(
                f"{path}: `eval_pack` must not be given, since {recipe.name} would be fitted to held-out clips"
            )
        config = replace(config, eval_pack=eval_pack, hold_out=0.0)
    return FinishedRun(folder, recipe, config, load_run_data(config, Path(data_dir)))


def find_recipe(folder: RunFolder) -> Recipe:
    """Return the recipe of a run."""
    if folder.system not in recipe_names():
        raise ValueError(f"{folder.path}: `system` must be the name of a recipe; received: {folder.system!r}")
    return import_module(f"kerastag.recipes.{folder.system}").RECIPE


def evaluate_run(path: str | Path, data_dir: str | Path | None = None, eval_pack: str | None = None) -> Metrics:
    """Evaluate a finished run again from its files, and print its metrics.

    Args:
        path: Run folder.
        data_dir: Folder of packs; by default, that of the run.
        eval_pack: Name of the pack to evaluate on; by default, the clips that the run was evaluated on.

    Returns:
        Metrics of the mean of its checkpoints' predictions.

    Raises:
        FileNotFoundError: There is no such run, or its packs do not exist.
        ValueError: The run is not finished, or its files are damaged.
    """
    run = load_run(path, data_dir, eval_pack)
    saved = run.folder.metrics("ensemble.map")["ensemble"]["map"]
    if eval_pack is None:
        print(f"mAP at the end of the run: {np.nan if saved is None else saved:.4f}", file=sys.stderr)
    metrics = compute_run_metrics(run)
    run.recipe.print_results(metrics, run.folder)
    return Metrics.from_dict(metrics["ensemble"])


def evaluate_ensemble(
    paths: Sequence[str | Path], data_dir: str | Path | None = None, eval_pack: str | None = None
) -> Metrics:
    """Evaluate the mean of the predictions of several runs, and print its metrics and those of each run.

    Every run has the same weight, whatever its system; its predictions are the mean of its checkpoints'.

    Args:
        paths: Folders of finished runs that were evaluated on the same clips.
        data_dir: Folder of packs; by default, that of each run.
        eval_pack: Name of the pack to evaluate on; by default, the clips that each run was evaluated on.

    Returns:
        Metrics of the mean.

    Raises:
        FileNotFoundError: There is no such run, or its packs do not exist.
        ValueError: A run is not finished, has no network, or was evaluated on other clips or classes than the first.
    """
    if not paths:
        raise ValueError("`paths` must hold at least one run folder; received: none")
    from kerastag.training.evaluation import evaluate_predictions

    first, total, rows = load_run(paths[0], data_dir, eval_pack), np.zeros(()), []
    for path in paths:
        run = load_run(path, data_dir, eval_pack)
        check_same_clips(first.folder.path, first.data, run.folder.path, run.data)
        if run.recipe.task is None:
            raise ValueError(f"{path}: {run.recipe.name} has no network whose predictions could be averaged")
        predictions = predict_clips(run)
        total = total + predictions
        rows.append(format_metrics_row(str(path), evaluate_predictions(run.data, predictions)))
    metrics = evaluate_predictions(first.data, (total / len(paths)).astype(np.float32))
    rows.append(format_metrics_row(f"mean of the {len(paths)}", metrics))
    print(format_table(("run", *METRIC_NAMES), rows))
    print(metrics.format_line())
    return metrics


def predict_run(path: str | Path, data_dir: str | Path | None = None) -> tuple[RunData, np.ndarray]:
    """Predict the clips that a finished run is evaluated on.

    Args:
        path: Run folder.
        data_dir: Folder of packs; by default, that of the run.

    Returns:
        Clips of the run, and the mean of its checkpoints' probabilities, or the scores of a system without a network,
        `(clips, classes)`.

    Raises:
        FileNotFoundError: There is no such run, or its packs do not exist.
        ValueError: The run is not finished.
    """
    run = load_run(path, data_dir)
    return run.data, predict_clips(run)


def compute_run_metrics(run: FinishedRun) -> dict[str, Any]:
    """Compute the metrics of a finished run from its files, as its training did: the content of `metrics.json`."""
    from kerastag.training.evaluation import evaluate_predictions, evaluate_streams, predict_evaluation

    start = time.perf_counter()
    if run.recipe.compute_scores is not None:
        results = dict(run.recipe.compute_scores(run.config, run.data))
        return run_metrics(run.data, {"ensemble": evaluate_predictions(run.data, results.pop("scores")), **results})
    from kerastag.models.loading import load_model
    from kerastag.training.outputs import select_training_outputs

    ensemble = _predict_ensemble(run)
    predictions = ensemble.mean()
    model = load_model(run.folder.model_path)
    model_metrics = evaluate_predictions(
        run.data, predict_evaluation(select_training_outputs(model), run.config, run.data)
    )
    if run.config.swa:
        parts = {"averaged": model_metrics, "last": evaluate_predictions(run.data, ensemble.last)}
    else:
        parts = {"last": model_metrics}
    results = {
        "ensemble": evaluate_predictions(run.data, predictions),
        **parts,
        **evaluate_streams(run.data, predictions),
        **(run.recipe.task.extra_metrics(run.config, run.data, model) if run.recipe.task else {}),
        "seconds": time.perf_counter() - start,
    }
    return run_metrics(run.data, results)


def check_same_clips(first_path: str | Path, first: RunData, path: str | Path, data: RunData) -> None:
    """Raise a ValueError if two runs were evaluated on other clips or have other classes."""
    if first.labels != data.labels:
        raise ValueError(f"{path}: has other classes than {first_path}")
    if not np.array_equal(first.targets, data.targets):
        raise ValueError(f"{path}: was evaluated on other clips than {first_path}")


def predict_clips(run: FinishedRun) -> np.ndarray:
    """Predict the clips of a finished run, `(clips, classes)`: the mean of its checkpoints, or scores."""
    if run.recipe.compute_scores is not None:
        return run.recipe.compute_scores(run.config, run.data)["scores"]
    import keras

    predictions = _predict_ensemble(run).mean()
    keras.backend.clear_session()  # the next run has a network of its own
    return predictions if predictions.ndim == 2 else predictions[..., 0]


def _predict_ensemble(run: FinishedRun) -> "CheckpointEnsemble":
    """Predict with every checkpoint of a run, all outputs that training needs."""
    from kerastag.training.evaluation import CheckpointEnsemble, predict_evaluation
    from kerastag.training.trainer import build_models

    assert run.recipe.task is not None
    _, model = build_models(run.recipe.task, run.config, run.data)
    model.compile()
    ensemble = CheckpointEnsemble(model, lambda model: predict_evaluation(model, run.config, run.data))
    ensemble.add_files(run.folder.checkpoint_paths(len(checkpoint_steps(run.config))))
    return ensemble
