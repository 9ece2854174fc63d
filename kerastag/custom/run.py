"""Train a tagger of the user's own sounds, evaluate it and leave a run folder."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kerastag._provenance import package_versions
from kerastag.card import Card
from kerastag.custom.base_classes import add_base_classes
from kerastag.custom.calibration import (
    compute_calibration_error,
    cross_fit_calibration,
    fit_calibration,
    raise_thresholds,
)
from kerastag.custom.clips import BACKGROUND, Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.cross_validation import cross_validate, evaluate_logistic_regression
from kerastag.custom.deployment import deploy_tagger, save_predictions
from kerastag.custom.embeddings import load_backbone
from kerastag.custom.exported import export_head
from kerastag.custom.false_alarms import split_config_ambient
from kerastag.custom.parts import choose_window, save_parts
from kerastag.custom.progress import show_progress
from kerastag.custom.report import save_results, select_thresholds
from kerastag.custom.run_inputs import embed_run_clips, load_run_clips
from kerastag.custom.tagger import TaggerTrainer, build_tagger
from kerastag.labels import LabelSet
from kerastag.tagger.presets import fetch_model
from kerastag.training.devices import enable_determinism
from kerastag.training.run_folder import RunFolder

__all__ = ["get_run_path", "train_custom_tagger"]

_CALIBRATION = "Platt scaling of each class, of predictions for held-out clips"


def train_custom_tagger(config: CustomConfig) -> dict[str, Any]:
    """Train a tagger of the user's own sounds on top of a pretrained backbone, unless the run is finished.

    The tagger is evaluated by cross-validation and then trained on all clips. The run folder gets `model.keras` and its
    two parts `embedder.keras` and `head.keras`; with `deploy`, also the exported files and a report.

    Args:
        config: Configuration of the run.

    Returns:
        The content of `metrics.json`.

    Raises:
        FileNotFoundError: There is no such folder, list, backbone or run.
        ValueError: The recordings, their list, the backbone or the run folder cannot be used; or the exported files do
            not compute what was trained.
        FloatingPointError: A loss is no longer finite.
    """
    backbone_path = fetch_model(config.model)
    if config.compare_with is not None:
        RunFolder.open(config.compare_with).metrics("metrics.map")
    if config.deploy:
        split_config_ambient(config)  # raises before the training where the ambient sound cannot be used
    with show_progress("listing the recordings"):
        clips = load_run_clips(config, Card.read(backbone_path).sample_rate)
    folder = RunFolder.create(get_run_path(config), "custom", config)
    if folder.is_finished:
        _check_clips(folder, clips)
        print(f"{folder.path}: already finished; its metrics are shown again", file=sys.stderr)
        return folder.metrics()
    with folder.lock():
        return _train(config, folder, clips, backbone_path)


def get_run_path(config: CustomConfig) -> str:
    """Return the path of the run folder."""
    return config.run_dir or f"runs/custom/seed_{config.seeds[0]}"


def _train(config: CustomConfig, folder: RunFolder, clips: Clips, backbone_path: Path) -> dict[str, Any]:
    enable_determinism()
    start, digest = time.perf_counter(), clips.compute_digest()
    with show_progress("loading the backbone"):
        backbone = load_backbone(backbone_path)
    clips, embeddings = embed_run_clips(config, backbone, clips)
    embedding_seconds = time.perf_counter() - start
    num_long = int((embeddings.num_windows > 1).sum())
    if num_long:
        print(f"longer than {config.max_seconds:g} s: {num_long} recordings, each is one bag", file=sys.stderr)

    trainer = TaggerTrainer(config, backbone, clips, embeddings)
    results: dict[str, Any] = {
        "clips_digest": digest,
        "errors": list(embeddings.errors),
        "num_long": num_long,
        "embedding_seconds": embedding_seconds,
    }
    y_true = clips.targets[clips.recordings]
    if config.folds:
        kinds, scores, raw_probabilities = cross_validate(trainer)
        folds = clips.folds[clips.recordings]
        probabilities = np.stack([cross_fit_calibration(y_true, each, folds) for each in raw_probabilities])
        with show_progress("logistic regression for comparison"):
            results["logistic"] = evaluate_logistic_regression(clips, embeddings.clip)
        results["calibration_error"] = {
            "before": float(np.mean([compute_calibration_error(y_true, each) for each in raw_probabilities])),
            "after": float(np.mean([compute_calibration_error(y_true, each) for each in probabilities])),
        }
    else:
        kinds, scores = ["frames" if config.segments == "best" else config.segments], []
        results["logistic"] = []
    kind = Counter(kinds).most_common(1)[0][0]
    results |= {"kinds": kinds, "folds": scores}
    with show_progress("training on all clips"):
        tagger, head = trainer.train(kind, np.arange(len(clips)), config.seeds[0])
        calibration = None
        if config.folds:
            tiled = np.tile(y_true, (len(raw_probabilities), 1))
            calibration = fit_calibration(tiled, raw_probabilities.reshape(tiled.shape))
            head.calibrate(calibration)
        else:
            probabilities = trainer.predict(tagger, kind, clips.recordings)[None]
    thresholds, thresholds_origin = _select_thresholds(config, clips, probabilities)
    card = Card(
        labels=LabelSet.from_names(clips.class_names),
        sample_rate=backbone.card.sample_rate,
        window_seconds=choose_window(kind, trainer.bags[kind].lengths[clips.recordings], backbone.card),
        seconds_per_frame=(backbone.card.seconds_per_frame or 1.0) if kind == "frames" else 1.0,
        front_end=backbone.card.front_end,
        thresholds=thresholds,
        thresholds_origin=thresholds_origin,
        origin=f"{len(clips)} clips of {clips.source} on {backbone.card.origin or config.model}",
        versions=package_versions(),
        calibration=_CALIBRATION if config.folds else "",
    )
    with show_progress("saving the tagger"):
        folder.save_model(tagger, card)
        save_parts(folder, backbone, kind, head.model, card)
    if config.deploy:
        card, alarms = deploy_tagger(folder, trainer, kind, head, embeddings, calibration)
        results |= alarms | save_predictions(folder, trainer, kinds, kind, head, embeddings, probabilities)
    if config.keep_base:
        head_model, base_card = add_base_classes(head.model, card, backbone, kind)
        folder.save_model(build_tagger(backbone.embedders[kind], head_model), base_card)
        save_parts(folder, backbone, kind, head_model, base_card)
        if config.deploy:
            with show_progress("exporting the head with the classes of the backbone"):
                export_head(folder, kind)
    results["seconds"] = time.perf_counter() - start
    metrics = save_results(folder, config, clips, probabilities, card.thresholds or (), results)
    if config.deploy:
        from kerastag.custom.page import write_report  # Jinja2, which a run without a report does not need

        with show_progress("writing the report"):
            write_report(folder)
    return metrics


def _select_thresholds(config: CustomConfig, clips: Clips, probabilities: np.ndarray) -> tuple[tuple[float, ...], str]:
    """Select the thresholds with the best F1, raise them where the clips were held out, and describe their origin."""
    y_true = np.tile(clips.targets[clips.recordings], (len(probabilities), 1))
    y_score = probabilities.reshape(y_true.shape)
    selected = np.array(select_thresholds(y_true, y_score))
    if not config.folds:
        return tuple(selected.tolist()), "best F1 on the training clips"
    is_class = np.array([name != BACKGROUND for name in clips.class_names])
    thresholds = selected.copy()
    thresholds[is_class] = raise_thresholds(y_true[:, is_class], y_score[:, is_class], selected[is_class])
    is_raised = thresholds > selected
    raised = f", and at least {thresholds[is_raised].max():g}" if is_raised.any() else ""
    return tuple(thresholds.tolist()), f"best F1 on held-out clips{raised}"


def _check_clips(folder: RunFolder, clips: Clips) -> None:
    """Raise a ValueError if a finished run had other recordings or labels."""
    digest = folder.metrics().get("clips_digest")
    if digest not in (None, clips.compute_digest()):
        raise ValueError(
            f"{folder.path}: `run_dir` must be the folder of a new run, as {clips.source} has other recordings or "
            f"labels than this finished one; --compare-with {folder.path} compares the two"
        )
