"""Evaluation of finished runs from their files."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.card import Card
from kerastag.custom.clips import BACKGROUND, Clips, load_clips, load_waveform
from kerastag.custom.config import CustomConfig
from kerastag.custom.memory import Waveforms
from kerastag.custom.tagger import predict_waveforms
from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics, compute_metrics
from kerastag.models.loading import load_model
from kerastag.training.report import METRIC_NAMES, format_metrics_row
from kerastag.training.run_folder import RunFolder

__all__ = ["evaluate_custom_run"]


def evaluate_custom_run(path: str | Path) -> Metrics:
    """Evaluate the tagger of a finished run on the recordings that it was trained on, and print its metrics.

    The metrics of the cross-validation, which say more about new recordings, are printed too.

    Args:
        path: Run folder.

    Returns:
        Metrics on the recordings that the tagger was trained on.

    Raises:
        FileNotFoundError: There is no such run, it is not finished, or its recordings do not exist.
        ValueError: A file of the run is damaged, or its recordings have other classes now.
    """
    folder = RunFolder.open(path)
    saved_metrics = folder.metrics()
    config = _read_config(folder)
    card = Card.read(folder.model_path)
    # Only the user's recordings are evaluated, and all of them, whatever their folds.
    clips = load_clips(replace(config, background="none", folds=0), card.sample_rate)
    names = card.labels.names if card.labels else ()
    if clips.class_names not in (names, tuple(name for name in names if name != BACKGROUND)):
        raise ValueError(
            f"{clips.source}: must have the classes of {folder.path}, {', '.join(names)}; received: "
            f"{', '.join(clips.class_names)}"
        )
    waveforms = _load_waveforms(clips, card.sample_rate, config.max_seconds)
    columns = [names.index(name) for name in clips.class_names]
    tagger = load_model(folder.model_path)
    predictions = predict_waveforms(tagger, waveforms, np.arange(len(waveforms.targets)))[:, columns]
    present = np.flatnonzero(waveforms.targets.any(axis=0))
    metrics = compute_metrics(waveforms.targets[:, present], predictions[:, present])
    saved_name = "cross-validation, at the end of the run" if saved_metrics["folds"] else "at the end of the run"
    rows = [
        format_metrics_row("model.keras, on the clips that it was trained on", metrics),
        format_metrics_row(saved_name, saved_metrics["metrics"]),
    ]
    print(format_table((f"{len(predictions)} clips, {len(present)} classes", *METRIC_NAMES), rows))
    print("\nmodel.keras was trained on these clips: the metrics of new recordings are those of a cross-validation")
    print(f"run folder: {folder.path}\n{metrics.format_line()}")
    return metrics


def _read_config(folder: RunFolder) -> CustomConfig:
    names = {field.name for field in fields(CustomConfig)}
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in folder.config.items() if name in names
    }
    try:
        return CustomConfig(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder.path}: damaged configuration: {error}") from error


def _load_waveforms(clips: Clips, sample_rate: int, max_seconds: float) -> Waveforms:
    """Load the clips that can be read, and name the others on standard error."""
    waveforms, rows = [], []
    for row, clip in enumerate(clips.audio):
        try:
            waveforms.append(load_waveform(clip, sample_rate, max_seconds))
            rows.append(row)
        except (ValueError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{clips.source}: none of {len(clips)} recordings can be read")
    return Waveforms(waveforms, clips.targets[rows])
