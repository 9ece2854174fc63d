"""Predictions of a model over the clips of a pack, and their average over checkpoints."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerastag.data.batches import scale
from kerastag.metrics.classification import Metrics, compute_metrics
from kerastag.training.config import TrainingConfig
from kerastag.training.outputs import STREAMS
from kerastag.training.report import save_results
from kerastag.training.run_data import RunData, load_run_data
from kerastag.training.run_folder import RunFolder

__all__ = [
    "CheckpointEnsemble",
    "average_checkpoints",
    "evaluate_predictions",
    "evaluate_scores",
    "evaluate_streams",
    "load_checkpoints",
    "predict",
    "predict_evaluation",
]

_EMBEDDING_BATCH_SIZE = 512


class Rows(Protocol):
    """What prediction needs of a pack."""

    @property
    def targets(self) -> np.ndarray: ...
    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def predict(model: Any, pack: Rows, rows: np.ndarray | None = None, batch_size: int = _EMBEDDING_BATCH_SIZE) -> Any:
    """Predict the clips of a pack.

    Args:
        model: Keras model of embeddings or waveforms.
        pack: Pack that holds the clips.
        rows: Row numbers in the order of the predictions, or None for all.
        batch_size: Number of clips in a batch, at least 1.

    Returns:
        The outputs of the model, float32: `(clips, classes)`, or a structure of such arrays.
    """
    import keras

    rows = np.arange(len(pack.targets)) if rows is None else rows
    outputs = []
    for start in range(0, len(rows), batch_size):
        x, lengths, _ = pack.rows(rows[start : start + batch_size])
        outputs.append(model.predict_on_batch(scale(x, lengths)))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts).astype(np.float32), *outputs)


def predict_evaluation(model: Any, config: TrainingConfig, data: RunData) -> Any:
    """Predict the clips that a run is evaluated on."""
    return predict(model, data.evaluation, data.evaluation_rows, prediction_batch_size(config, data))


def prediction_batch_size(config: TrainingConfig, data: RunData) -> int:
    """Return the number of clips to predict at a time: embeddings are small, waveforms as large as in training."""
    return _EMBEDDING_BATCH_SIZE if len(data.train.x_shape) == 3 else config.batch_size


def evaluate_predictions(data: RunData, predictions: np.ndarray) -> Metrics:
    """Compute the metrics of predictions of the clips that a run is evaluated on.

    Args:
        data: Clips of the run.
        predictions: Probabilities `(clips, classes)`, or `(clips, classes, 1 + streams)` with those of both streams
            together first.
    """
    clipwise = predictions if predictions.ndim == 2 else predictions[..., 0]
    return compute_metrics(data.targets, clipwise, data.labels.names)


def evaluate_streams(data: RunData, predictions: np.ndarray) -> dict[str, Metrics]:
    """Compute the metrics of each stream of a two-stream model; of any other model, nothing."""
    if predictions.ndim == 2:
        return {}
    return {name: evaluate_predictions(data, predictions[..., i]) for i, name in enumerate(STREAMS, start=1)}


def evaluate_scores(
    folder: RunFolder, compute_scores: Callable[[Any, RunData], Mapping[str, Any]], config: Any, data_dir: Path
) -> dict[str, Any]:
    """Evaluate a system without a network, and return the content of `metrics.json`.

    Args:
        folder: Folder of the run.
        compute_scores: Function of the configuration and the clips of the run that returns a dict with `scores`,
            `(clips, classes)`, and JSON values to save with the metrics.
        config: Configuration of the run.
        data_dir: Folder of packs.
    """
    data = load_run_data(config, data_dir)
    start = time.perf_counter()
    results = dict(compute_scores(config, data))
    metrics = evaluate_predictions(data, results.pop("scores"))
    return save_results(folder, data, {"ensemble": metrics, **results, "seconds": time.perf_counter() - start})


def without_optimizer(model: Any) -> Any:
    """Return an uncompiled model with the layers of a compiled one.

    Keras saves the variables of the optimizer in the weight files of a compiled model, and overwrites them on loading.
    """
    return type(model)(model.input, model.output)


def load_checkpoints(model: Any, paths: Sequence[Path]) -> Iterator[Any]:
    """Yield a model with the weights of each of several checkpoints in turn.

    Raises:
        ValueError: A file is not one of weights of this model.
    """
    uncompiled = without_optimizer(model)
    for path in paths:
        try:
            uncompiled.load_weights(path)
        except Exception as error:  # A damaged file raises any error of h5py or Keras.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: must be the weights of this model; received: {reason}") from error
        yield model


def average_checkpoints(model: Any, paths: Sequence[Path]) -> None:
    """Give a model the mean of the weights of several checkpoints, and of their moving averages.

    Raises:
        ValueError: A file is not one of weights of this model.

    Reference:
        Izmailov et al., 2018, Averaging weights leads to wider optima and better generalization. There, the moving
        averages of batch normalization are computed again for the mean of the weights, which made no difference to
        networks of embeddings.
    """
    sums: list[np.ndarray] = []
    for loaded in load_checkpoints(model, paths):
        weights = [np.asarray(value, np.float64) for value in loaded.get_weights()]
        sums = [a + b for a, b in zip(sums, weights, strict=True)] if sums else weights
    model.set_weights([(value / len(paths)).astype(np.float32) for value in sums])


class CheckpointEnsemble:
    """Mean of the predictions of several checkpoints.

    Args:
        model: Model into which the weights are loaded.
        predict: Function of the model that returns probabilities.

    Attributes:
        count: Number of checkpoints added so far.
        last: Predictions of the last one, once there is one.
    """

    def __init__(self, model: Any, predict: Callable[[Any], np.ndarray]) -> None:
        self._model, self._predict = model, predict
        self._sum: np.ndarray | None = None
        self.count = 0
        self.last = np.empty((0, 0), np.float32)

    def add(self, predictions: np.ndarray) -> np.ndarray:
        """Add the predictions of a checkpoint and return the mean."""
        self._sum = predictions.astype(np.float64) if self._sum is None else self._sum + predictions
        self.last = predictions
        self.count += 1
        return self.mean()

    def add_files(self, paths: Sequence[Path]) -> None:
        """Add checkpoints from their files; the model gets its own weights back afterwards."""
        weights = self._model.get_weights()
        for model in load_checkpoints(self._model, paths):
            self.add(self._predict(model))
        self._model.set_weights(weights)

    def mean(self) -> np.ndarray:
        """Return the mean of the predictions added so far, float32."""
        if self._sum is None:
            raise ValueError("`CheckpointEnsemble` has no checkpoint yet")
        return (self._sum / self.count).astype(np.float32)
