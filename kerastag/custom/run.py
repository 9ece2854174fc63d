"""Train a tagger of the user's own sounds, evaluate it and leave a run folder."""

import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag._provenance import package_versions
from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.clips import Clips, load_clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.cross_validation import cross_validate, evaluate_logistic_regression
from kerastag.custom.embeddings import PretrainedBackbone, embed_clips, load_backbone
from kerastag.custom.report import save_results, select_thresholds
from kerastag.custom.tagger import TaggerTrainer
from kerastag.fetch import get_cache_folder
from kerastag.labels import LabelSet
from kerastag.models.weights import compute_fingerprint
from kerastag.tagger.presets import fetch_model
from kerastag.training.devices import enable_determinism
from kerastag.training.run_folder import RunFolder

__all__ = ["get_run_path", "train_custom_tagger"]


def train_custom_tagger(config: CustomConfig) -> dict[str, Any]:
    """Train a tagger of the user's own sounds on top of a pretrained backbone, unless the run is finished.

    The tagger is evaluated by cross-validation and then trained on all clips. The run folder gets `model.keras` and,
    for a tagger of seconds, its two parts `embedder.keras` and `head.keras`.

    Args:
        config: Configuration of the run.

    Returns:
        The content of `metrics.json`.

    Raises:
        FileNotFoundError: There is no such folder, list or backbone.
        ValueError: The recordings, their list, the backbone or the run folder cannot be used.
        FloatingPointError: A loss is no longer finite.
    """
    backbone_path = fetch_model(config.model)
    clips = load_clips(config, Card.read(backbone_path).sample_rate)
    folder = RunFolder.create(get_run_path(config), "custom", config)
    if folder.is_finished:
        print(f"{folder.path}: already finished; its metrics are shown again", file=sys.stderr)
        return folder.metrics()
    with folder.lock():
        return _train(config, folder, clips, backbone_path)


def _train(config: CustomConfig, folder: RunFolder, clips: Clips, backbone_path: Path) -> dict[str, Any]:
    enable_determinism()
    start = time.perf_counter()
    backbone = load_backbone(backbone_path)
    embeddings = embed_clips(
        backbone, clips, config.max_seconds, get_cache_folder() / "embeddings", parse_channel(config.channel)
    )
    embedding_seconds = time.perf_counter() - start
    readable = np.flatnonzero(embeddings.is_readable)
    clips, embeddings = clips.select(readable), embeddings.select(readable)
    num_long = int((embeddings.num_windows > 1).sum())
    if num_long:
        print(f"longer than {config.max_seconds:g} s: {num_long} recordings, each is one bag", file=sys.stderr)

    trainer = TaggerTrainer(config, backbone, clips, embeddings)
    if config.folds:
        kinds, scores, probabilities = cross_validate(trainer)
        logistic_scores = evaluate_logistic_regression(clips, embeddings.clip)
    else:
        kinds, scores, logistic_scores = ["frames" if config.segments == "best" else config.segments], [], []
    kind = Counter(kinds).most_common(1)[0][0]
    tagger, head = trainer.train(kind, np.arange(len(clips)), config.seeds[0])
    if not config.folds:
        probabilities = trainer.predict(tagger, kind, clips.recordings)[None]
    y_true = np.tile(clips.targets[clips.recordings], (len(probabilities), 1))
    thresholds = select_thresholds(y_true, probabilities.reshape(len(y_true), -1))

    card = Card(
        labels=LabelSet.from_names(clips.class_names),
        sample_rate=backbone.card.sample_rate,
        window_seconds=backbone.card.window_seconds,
        seconds_per_frame=(backbone.card.seconds_per_frame or 1.0) if kind == "frames" else 1.0,
        front_end=backbone.card.front_end,
        thresholds=thresholds,
        thresholds_origin="best F1 on held-out clips" if config.folds else "best F1 on the training clips",
        origin=f"{len(clips)} clips of {clips.source} on {backbone.card.origin or config.model}",
        versions=package_versions(),
    )
    folder.save_model(tagger, card)
    if kind == "seconds":
        _save_parts(folder, backbone, head.model, card)
    results = {
        "kinds": kinds,
        "folds": scores,
        "logistic": logistic_scores,
        "errors": list(embeddings.errors),
        "num_long": num_long,
        "embedding_seconds": embedding_seconds,
        "seconds": time.perf_counter() - start,
    }
    return save_results(folder, config, clips, probabilities, thresholds, results)


def get_run_path(config: CustomConfig) -> str:
    """Return the path of the run folder."""
    return config.run_dir or f"runs/custom/seed_{config.seeds[0]}"


def _save_parts(folder: RunFolder, backbone: PretrainedBackbone, head: keras.Model, card: Card) -> None:
    """Save the two parts of a tagger of seconds, `embedder.keras` and `head.keras`.

    A device runs the embedder once per second. The cards of the two parts have the same fingerprint of the embedder.
    """
    embedder = keras.Model(backbone.clip_embedder.input, {"embedding": backbone.clip_embedder.output}, name="embedder")
    versions = {**card.versions, "embedder": compute_fingerprint(embedder)}
    embedder_card = Card(
        labels=None,
        sample_rate=card.sample_rate,
        window_seconds=1.0,
        front_end=card.front_end,
        origin=card.origin,
        versions=versions,
    )
    folder.save_model(embedder, embedder_card, folder.embedder_path)
    folder.save_model(head, replace(card, versions=versions), folder.head_path)
