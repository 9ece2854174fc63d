"""Learning from finished runs: their mean predictions of the mini-batches become targets of another network."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.data.batches import Batches
from kerastag.files import atomic_path
from kerastag.recipes._evaluation import find_recipe
from kerastag.recipes._recipe import Recipe
from kerastag.training.config import checkpoint_steps
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder

__all__ = ["DistilledBatches", "Teacher", "load_teachers", "predict_batches"]


@dataclass(frozen=True)
class DistilledBatches:
    """Training batches whose targets are partly what teachers predict.

    The first batches are repeated, so that the teachers process each of them once.

    Args:
        batches: Batches with labels as targets.
        predictions: Probabilities that the teachers predict for the first batches, `(batches, batch, classes)`.
        share: Share of the predictions in a target, in [0, 1].

    Reference:
        Hinton et al., 2015, Distilling the knowledge in a neural network. That teachers and student process the same
        augmented clips is from Beyer et al., 2022, Knowledge distillation: A good teacher is patient and consistent.
    """

    batches: Batches
    predictions: np.ndarray
    share: float

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: inputs, and targets `(batch, classes)`, float32."""
        number = index % len(self.predictions)
        x, target = self.batches.batch(number)
        return x, (1 - self.share) * target + self.share * self.predictions[number]


@dataclass(frozen=True)
class Teacher:
    """A finished run that another network learns from.

    Attributes:
        folder: Run folder.
        recipe: Recipe that was run.
        config: Configuration of the run.
        weight: Weight of its predictions; the weights of all teachers add up to 1.
    """

    folder: RunFolder
    recipe: Recipe
    config: Any
    weight: float

    @property
    def checkpoint_paths(self) -> list[Path]:
        """Weights of the checkpoints whose predictions are averaged."""
        return self.folder.checkpoint_paths(len(checkpoint_steps(self.config)))


def load_teachers(paths: Sequence[str], data: RunData) -> list[Teacher]:
    """Open the runs that a network learns from.

    Args:
        paths: Folders of finished runs; one that is named twice has twice the weight.
        data: Clips of the network that learns.

    Raises:
        FileNotFoundError: There is no such run, or it is not finished.
        ValueError: A run has no network, takes other inputs or predicts other classes.
    """
    teachers = []
    for path, count in Counter(paths).items():
        folder = RunFolder.open(path)
        labels, recipe = folder.metrics("labels.mids")["labels"], find_recipe(folder)
        if recipe.kind != "embeddings" or recipe.task is None:
            raise ValueError(f"{path}: must be a run of a network that takes embeddings; received: {recipe.name}")
        if tuple(labels["mids"]) != data.labels.mids:
            raise ValueError(f"{path}: must have the classes of {data.train.packs[0].path}")
        config = folder.read_config(recipe.config, recipe.defaults)
        teachers.append(Teacher(folder, recipe, config, count / len(paths)))
    return teachers


def predict_batches(teachers: Sequence[Teacher], data: RunData, batches: Batches, count: int, path: Path) -> np.ndarray:
    """Predict the first batches with every checkpoint of every teacher, and write the weighted means into a file.

    Args:
        teachers: Runs and their weights.
        data: Clips of the network that learns.
        batches: Batches of embeddings.
        count: Number of batches, at least 1.
        path: Path of the `.npy` file, float32 `(count, batch, classes)`; an existing file is read.

    Returns:
        The probabilities in the file, which stay on disk.

    Raises:
        ValueError: A checkpoint is missing or damaged.
    """
    if not path.is_file():
        with atomic_path(path) as temporary_path:
            shape = (count, *batches.batch(0)[1].shape)
            mean = np.lib.format.open_memmap(temporary_path, "w+", np.float32, shape)
            for teacher in teachers:
                _add_predictions(mean, teacher, data, batches)
            mean.flush()
            del mean
    return np.load(path, mmap_mode="r")


def _add_predictions(mean: np.ndarray, teacher: Teacher, data: RunData, batches: Batches) -> None:
    """Add the mean of what the checkpoints of a teacher predict, times its weight."""
    import keras

    from kerastag.training.evaluation import load_checkpoints
    from kerastag.training.trainer import build_models

    assert teacher.recipe.task is not None
    policy = keras.config.dtype_policy()
    try:
        _, model = build_models(teacher.recipe.task, teacher.config, data)
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile()
    paths = teacher.checkpoint_paths
    for number, loaded in enumerate(load_checkpoints(model, paths), start=1):
        print(f"teacher {teacher.folder.path}: checkpoint {number} of {len(paths)}", file=sys.stderr, flush=True)
        for index in range(len(mean)):
            predictions = np.asarray(loaded.predict_on_batch(batches.batch(index)[0]))
            mean[index] += predictions * (teacher.weight / len(paths))
