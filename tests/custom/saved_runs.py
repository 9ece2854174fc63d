"""Finished runs with given labels and predictions, as training leaves them, without training."""

import zipfile
from pathlib import Path

import numpy as np

from kerastag.card import Card, write_card
from kerastag.custom.clips import Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.look_alikes import find_neighbors
from kerastag.custom.predictions import RunPredictions
from kerastag.custom.report import save_results, select_thresholds
from kerastag.data.audio_lists import Recording
from kerastag.labels import LabelSet
from kerastag.training.run_folder import RunFolder


def draw_predictions(targets, seed=0, sharpness=2.0):
    """Draw predictions that are mostly right, float32 `(1, recordings, classes)`."""
    noise = np.random.default_rng(seed).normal(size=targets.shape)
    return (1 / (1 + np.exp(-(sharpness * (6 * targets - 3) / 2 + noise))))[None].astype(np.float32)


def save_run(path, class_names, targets, probabilities, *, audio=None, peaks=None, errors=(), curve=None, folds=3):
    """Save a run and return its folder.

    Args:
        path: Run folder.
        class_names: Names of the classes.
        targets: Labels, bool `(recordings, classes)`.
        probabilities: Predictions, float32 `(seeds, recordings, classes)`.
        audio: Paths of the recordings; by default, files that do not exist beside the run folder.
        peaks: Times at which the classes are most probable, `(recordings, classes)`.
        errors: Messages of recordings that cannot be read.
        curve: Learning curve.
        folds: Number of folds, or 0 for a run without cross-validation.
    """
    path, num_clips = Path(path), len(targets)
    audio = audio or [path.parent / "sounds" / f"{i}.wav" for i in range(num_clips)]
    recordings = tuple(
        Recording(Path(file), Path(file).name, tuple(np.flatnonzero(labels)))
        for file, labels in zip(audio, targets, strict=True)
    )
    numbers = np.arange(num_clips) % max(1, folds)
    clips = Clips("sounds", (), tuple(class_names), recordings, targets, numbers, np.ones_like(targets))
    config = CustomConfig(audio_dir="sounds", folds=folds, seeds=tuple(range(len(probabilities))))
    folder = RunFolder.create(path, "custom", config)
    flat_targets = np.tile(targets, (len(probabilities), 1))
    thresholds = select_thresholds(flat_targets, probabilities.reshape(flat_targets.shape))
    card = Card(LabelSet.from_names(class_names), 32_000, 10.0, 1.0, {}, thresholds=thresholds)
    with zipfile.ZipFile(folder.model_path, "w"):
        pass  # A report needs nothing of the model but its card.
    write_card(folder.model_path, card)
    results = {
        "kinds": ["seconds"] * max(1, folds),
        "folds": [[0.9] * folds] * len(probabilities) if folds else [],
        "logistic": [],
        "errors": list(errors),
        "num_long": 0,
        "embedding_seconds": 1.0,
        "seconds": 2.0,
        "learning_curve": curve or {},
    }
    save_results(folder, config, clips, probabilities, thresholds, results)
    embeddings = np.random.default_rng(0).normal(size=(num_clips, 8)) + 3 * targets @ np.eye(targets.shape[1], 8)
    peaks = np.zeros(targets.shape) if peaks is None else peaks
    RunPredictions.collect(clips, probabilities, peaks, find_neighbors(embeddings, targets)).save(
        folder.report_data_path
    )
    return folder
