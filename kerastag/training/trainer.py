"""Train a system on packs, evaluate it and leave a run folder."""

from pathlib import Path
from typing import Any
from zlib import crc32

import keras

from kerastag.data.batches import Batches
from kerastag.training.callbacks import TrainingCallback
from kerastag.training.config import TrainingConfig, checkpoint_steps
from kerastag.training.devices import build_scope, enable_determinism
from kerastag.training.distributed import check_agreement, share_batches
from kerastag.training.evaluation import (
    average_checkpoints,
    evaluate_predictions,
    evaluate_streams,
    predict_evaluation,
)
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.report import save_results
from kerastag.training.run_data import RunData, load_run_data, make_sampler
from kerastag.training.run_folder import RunFolder
from kerastag.training.state import build_optimizer
from kerastag.training.task import Task

__all__ = ["build_models", "fit", "make_dataset", "train"]


def train(folder: RunFolder, task: Task, config: TrainingConfig, data_dir: Path) -> dict[str, Any]:
    """Train and evaluate a system, or resume it where an interrupted run stopped.

    Args:
        folder: Folder of the run.
        task: Kind of system.
        config: Configuration of the run.
        data_dir: Folder of packs.

    Returns:
        The content of `metrics.json`.

    Raises:
        FloatingPointError: The loss or the model is no longer finite.
    """
    data = load_run_data(config, data_dir)
    check_agreement("all processes must read the same packs; checksum of labels", crc32(data.train.targets.data) >> 1)
    model, trained = build_models(task, config, data)
    compile_model(trained, config)
    callback = TrainingCallback(
        config,
        folder,
        predict=lambda model: predict_evaluation(model, config, data),
        evaluate=lambda predictions: evaluate_predictions(data, predictions),
        prior=float(data.targets.mean(axis=0)[data.targets.any(axis=0)].mean()),
    )
    batches = share_batches(task.batches(config, data, make_sampler(config, data), folder))
    fit(trained, batches, config, callback)
    predictions = callback.ensemble.mean()
    results: dict[str, Any] = {
        "ensemble": evaluate_predictions(data, predictions),
        "last": evaluate_predictions(data, callback.ensemble.last),
    }
    if config.swa:
        # The last checkpoint is there for all processes once process 0, which writes it, is here too.
        check_agreement("all processes must be at the same step", callback.step)
        average_checkpoints(trained, folder.checkpoint_paths(len(checkpoint_steps(config))))
        results["averaged"] = evaluate_predictions(data, callback.predict(trained))
    folder.save_model(model, task.card(config, data))
    results |= {
        **evaluate_streams(data, predictions),
        **task.extra_metrics(config, data, model),
        "steps": config.steps,
        "checkpoint_steps": list(checkpoint_steps(config)),
        "parameters": int(trained.count_params()),
        "seconds": callback.rows[-1]["seconds"],
    }
    return save_results(folder, data, results)


def build_models(task: Task, config: TrainingConfig, data: RunData) -> tuple[Any, Any]:
    """Build the model of a run, and the part of it that is trained, which shares its layers."""
    keras.utils.set_random_seed(config.seed)
    enable_determinism()
    keras.config.set_dtype_policy(config.precision)
    with build_scope(config.batch_size):
        model = task.build_model(config, data)
        return model, select_training_outputs(model)


def fit(model: Any, batches: Batches, config: TrainingConfig, callback: TrainingCallback) -> Any:
    """Train a compiled model with `model.fit`, from the state in the run folder if there is one."""
    build_optimizer(model)
    has_state = callback.folder.state_path.exists()
    check_agreement("`run_dir` must be one folder for all processes; a saved state in it", has_state)
    callback.restore(model)
    remaining = config.steps - callback.step
    if remaining:
        # One epoch: a run counts steps, and the end of an epoch would reset nothing that it needs.
        dataset = make_dataset(batches, callback.step, config.steps)
        model.fit(dataset, steps_per_epoch=remaining, verbose=0, shuffle=False, callbacks=[callback])
    elif config.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return model


def make_dataset(batches: Batches, start: int, stop: int) -> Any:
    """Make what `model.fit` reads batches from: tf.data on TensorFlow, else a `keras.utils.PyDataset`."""
    if keras.backend.backend() == "tensorflow":
        from kerastag.data.pipeline import make_training_dataset

        return make_training_dataset(batches, start, stop)
    from kerastag.data.pipeline import KerasBatches

    return KerasBatches(batches, start, stop)
