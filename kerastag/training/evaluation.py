"""A model over a pack -> probabilities, and the figures of one model or of averaged checkpoints."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kerastag.data.batches import scale


class Rows(Protocol):
    """What evaluation needs of a pack."""

    targets: np.ndarray

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def predict(model: Any, pack: Rows, rows: np.ndarray | None = None, batch_size: int = 512) -> Any:
    """A model over clips of a pack -> what it gives, float32: probabilities `(clips, classes)` as a rule.

    Args:
        model: embeddings or waveforms -> probabilities, or a list of outputs.
        pack: where the clips are.
        rows: row numbers in the order wanted, or None for all.
        batch_size: clips at a time.
    """
    rows = np.arange(len(pack.targets)) if rows is None else rows
    outputs = []
    for start in range(0, len(rows), batch_size):
        x, lengths, _ = pack.rows(rows[start : start + batch_size])
        outputs.append(model.predict_on_batch(scale(x, lengths)))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts).astype(np.float32), *outputs)


def without_optimizer(model: Any) -> Any:
    """A compiled model -> a model of the same layers that is not.

    Keras keeps the optimizer's variables in a compiled model's weight files, and overwrites them when it loads one.
    """
    return type(model)(model.input, model.output)


class CheckpointMean:
    """Checkpoints, one after the other -> the mean of their predictions so far.

    Args:
        model: into which weights are loaded.
        predictions: function of the model that gives probabilities.
    """

    def __init__(self, model: Any, predictions: Callable[[Any], np.ndarray]) -> None:
        self._model, self._predictions = model, predictions
        self._weights = without_optimizer(model)
        self._sum: np.ndarray | None = None
        self.count = 0

    def add(self, probabilities: np.ndarray) -> np.ndarray:
        """Take in one more checkpoint's probabilities and return the mean."""
        self._sum = probabilities.astype(np.float64) if self._sum is None else self._sum + probabilities
        self.count += 1
        return self.mean()

    def add_files(self, paths: Sequence[Path]) -> np.ndarray | None:
        """Take in checkpoints from their files; the model's own weights are put back afterwards."""
        own = self._model.get_weights()
        for path in paths:
            self._weights.load_weights(path)
            self.add(self._predictions(self._model))
        self._model.set_weights(own)
        return self.mean() if self.count else None

    def mean(self) -> np.ndarray:
        if self._sum is None:
            raise ValueError("`CheckpointMean` has no checkpoint yet")
        return (self._sum / self.count).astype(np.float32)
