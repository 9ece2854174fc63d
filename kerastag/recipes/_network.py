"""A network over a run's clips: built, trained with `model.fit`, its checkpoints averaged."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.card import Card, write_card
from kerastag.data.sampler import BalancedSampler
from kerastag.files import write_atomically
from kerastag.metrics import Metrics, compute_metrics
from kerastag.recipes._data import Data
from kerastag.recipes._run import SystemSettings, figures_of
from kerastag.training.devices import deterministic, scope
from kerastag.training.evaluation import CheckpointMean, predict
from kerastag.training.fit import Predictions, RunCallback, compiled, fit
from kerastag.training.outputs import STREAMS, select_training_outputs


def train_network(settings: SystemSettings, build: Callable[[Any, Data], Any], data: Data, folder: Path) -> dict:
    """Settings, a builder and clips -> the figures, with `model.keras` and `checkpoints/` in the run's folder."""
    full, model = build_models(settings, build, data)
    run = RunCallback(
        settings,
        folder,
        predictions=predictions(settings, data),
        measure=lambda probabilities: figures_of(data, probabilities),
        prior=float(data.targets.mean(axis=0)[data.targets.any(axis=0)].mean()),
    )
    fit(compiled(model, settings), batches(settings, data), settings, run)
    write_atomically(folder / "model.keras", lambda path: _save(full, path, settings.card(data)))
    last = run.last if run.last is not None else run.predictions(model)
    return {
        "ensemble": figures_of(data, run.ensemble.mean()),
        "last": figures_of(data, last),
        **stream_figures(data, run.ensemble.mean()),
        **settings.further_figures(data, full),
        **({"train": measure_training(settings, data, model)} if settings.measures_training else {}),
        "steps": settings.steps,
        "checkpoint_steps": list(settings.checkpoint_steps()),
        "parameters": int(model.count_params()),
        "seconds": run.rows[-1]["seconds"],
    }


def build_models(settings: SystemSettings, build: Callable[[Any, Data], Any], data: Data) -> tuple[Any, Any]:
    """The whole model, and the part of it that training needs, which shares its layers."""
    keras.utils.set_random_seed(settings.seed)
    deterministic()
    keras.config.set_dtype_policy(settings.precision)
    with scope():
        full = build(settings, data)
        return full, select_training_outputs(full)


def batches(settings: SystemSettings, data: Data) -> Callable[[int, int], Any]:
    """Settings and clips -> the function that gives `model.fit` the batches of some steps."""
    sampler = BalancedSampler(
        data.train.targets[data.train_rows],
        settings.batch_size,
        balance=settings.balance,
        seed=settings.seed,
        allow_empty_classes=settings.skip_corrupt,
        names=data.labels.names,
    )
    if settings.balance and len(sampler.empty_classes):
        names = ", ".join(data.labels.names[k] for k in sampler.empty_classes)
        print(f"left out of balancing, no clip: {names}", file=sys.stderr)
    made = settings.training_batches(data, sampler)
    if keras.backend.backend() == "tensorflow":
        from kerastag.data.pipeline import training_dataset

        return lambda start, stop: training_dataset(made, start, stop)
    from kerastag.data.keras_sequence import KerasBatches

    return lambda start, stop: KerasBatches(made, start, stop)


def predictions(settings: SystemSettings, data: Data) -> Predictions:
    """Settings and clips -> the function that gives a model's probabilities of the clips to measure on."""
    return lambda model: predict(model, data.evaluation, data.evaluation_rows, settings.prediction_batch_size)


def stream_figures(data: Data, probabilities: np.ndarray) -> dict[str, Metrics]:
    """Probabilities of the clips to measure on -> the figures of each stream by itself, where there are several."""
    if probabilities.ndim == 2:
        return {}
    return {name: figures_of(data, probabilities[..., stream]) for stream, name in enumerate(STREAMS, start=1)}


def measure_training(settings: SystemSettings, data: Data, model: Any) -> Metrics:
    """Class-wise figures on the clips that were trained on, for figure 7."""
    probabilities = predict(model, data.train, data.train_rows, settings.prediction_batch_size)
    return compute_metrics(data.train.targets[data.train_rows], probabilities)


def _save(model: Any, path: Path, card: Card | None) -> None:
    model.save(path)
    if card is not None:
        write_card(path, card)


def kept_ensemble(settings: SystemSettings, build: Callable[[Any, Data], Any], data: Data, folder: Path) -> np.ndarray:
    """A finished run -> the mean of its checkpoints' predictions, predicted again from their files.

    Raises:
        ValueError: checkpoints are missing.
    """
    _, model = build_models(settings, build, data)
    model.compile()
    ensemble = CheckpointMean(model, predictions(settings, data))
    paths = sorted((folder / "checkpoints").glob("step_*.weights.h5"))
    if len(paths) != len(settings.checkpoint_steps()):
        raise ValueError(f"{folder}: {len(paths)} checkpoints of {len(settings.checkpoint_steps())}: an unfinished run")
    ensemble.add_files(paths)
    return ensemble.mean()


def evaluate_network(settings: SystemSettings, build: Callable[[Any, Data], Any], data: Data, folder: Path) -> dict:
    """A finished run -> its figures, measured again from its files."""
    started = time.perf_counter()
    ensemble = kept_ensemble(settings, build, data, folder)
    loaded = keras.saving.load_model(folder / "model.keras", compile=False)
    return {
        "ensemble": figures_of(data, ensemble),
        "last": figures_of(data, predictions(settings, data)(select_training_outputs(loaded))),
        **stream_figures(data, ensemble),
        **settings.further_figures(data, loaded),
        "seconds": time.perf_counter() - started,
    }
