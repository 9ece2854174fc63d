"""What a run leaves for a device: exported files that compute what was trained, thresholds, and a report."""

from typing import Any

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.calibration import Calibration
from kerastag.custom.chain import check_chain
from kerastag.custom.embeddings import MAX_SEGMENTS, Embeddings, Kind
from kerastag.custom.exported import export_parts
from kerastag.custom.false_alarms import tune_alarms
from kerastag.custom.head import AttentionHead
from kerastag.custom.learning_curve import measure_learning_curve
from kerastag.custom.look_alikes import find_neighbors
from kerastag.custom.predictions import RunPredictions, find_peaks
from kerastag.custom.progress import show_progress
from kerastag.custom.tagger import TaggerTrainer
from kerastag.training.run_folder import RunFolder

__all__ = ["deploy_tagger", "save_predictions"]

_CLIPS_PER_BATCH = 64


def deploy_tagger(
    folder: RunFolder,
    trainer: TaggerTrainer,
    kind: Kind,
    head: AttentionHead,
    embeddings: Embeddings,
    calibration: Calibration | None,
) -> tuple[Card, dict[str, Any]]:
    """Export the tagger of a run, choose thresholds on simulated streams, and check the exported files.

    Args:
        folder: Folder of the run, with `model.keras` and its parts.
        trainer: Trainer of the run.
        kind: What a bag consists of.
        head: Trained head.
        embeddings: Embeddings of the clips of the run.
        calibration: Calibration of the head.

    Returns:
        The card of the tagger with the chosen thresholds, and what the metrics of the run have of all this.

    Raises:
        ChainError: The exported files do not compute what was trained.
        FileNotFoundError: There is no such ambient sound.
        ValueError: The tagger cannot be exported, or the ambient sound cannot be used.
    """
    clips, channel = trainer.clips, parse_channel(trainer.config.channel)
    with show_progress("exporting"):
        exported = export_parts(folder, [clips.audio[row] for row in clips.recordings], channel)
    alarms = tune_alarms(trainer, kind, head, folder, exported, calibration).as_dict()
    with show_progress("comparing the exported files with training"):
        cached = None if trainer.config.fine_tune else embeddings
        chain = check_chain(folder, exported, clips, channel=channel, embeddings=cached)
    return Card.read(folder.model_path), {
        "alarms": alarms.pop("classes"),
        "operating_point": alarms,
        "chain": str(chain),
    }


def save_predictions(
    folder: RunFolder,
    trainer: TaggerTrainer,
    kinds: list[Kind],
    kind: Kind,
    head: AttentionHead,
    embeddings: Embeddings,
    probabilities: np.ndarray,
) -> dict[str, Any]:
    """Save what the report of a run is made of, and measure what more recordings would help.

    Args:
        folder: Folder of the run.
        trainer: Trainer of the run.
        kinds: What a bag consists of in each fold.
        kind: What a bag of the tagger consists of.
        head: Trained head, which has the same weights afterwards.
        embeddings: Embeddings of the clips of the run.
        probabilities: Predictions for the recordings when they were held out, `(seeds, recordings, classes)`.

    Returns:
        What the metrics of the run have of it.
    """
    clips, bags, rows = trainer.clips, trainer.bags[kind], trainer.clips.recordings
    framewise = [
        np.asarray(head.model.predict_on_batch(bags.x[part])["framewise"])
        for part in np.array_split(rows, max(1, len(rows) // _CLIPS_PER_BATCH))
    ]
    seconds = 1.0 if kind == "seconds" else trainer.backbone.card.seconds_per_frame or 1.0
    is_whole = (embeddings.num_windows[rows] == 1) | (bags.lengths[rows] < MAX_SEGMENTS)
    is_timed = is_whole & (not trainer.config.fine_tune)
    peaks = find_peaks(np.concatenate(framewise), bags.lengths[rows], seconds, is_timed)
    neighbors = find_neighbors(embeddings.clip[rows], clips.targets[rows])
    RunPredictions.collect(clips, probabilities, peaks, neighbors).save(folder.report_data_path)
    if not trainer.config.folds:
        return {}
    weights = head.model.get_weights()
    with show_progress("learning curve"):
        curve = measure_learning_curve(trainer, kinds, probabilities[0])
    head.model.set_weights(weights)
    return {"learning_curve": curve}
