"""Writing a head that was trained in a review into its run, for `kerastag stream` and `kerastag tag`."""

from __future__ import annotations

import dataclasses

from kerastag.card import Card
from kerastag.custom.embeddings import PretrainedBackbone
from kerastag.custom.exported import export_head
from kerastag.custom.parts import read_kind
from kerastag.custom.tagger import build_tagger
from kerastag.review.retraining import HeadTrainer, TrainedHead
from kerastag.training.run_folder import RunFolder

__all__ = ["write_head"]


def write_head(folder: RunFolder, backbone: PretrainedBackbone, trainer: HeadTrainer, trained: TrainedHead) -> None:
    """Replace `head.keras`, `head.tflite` and `model.keras` of a run, each at once.

    A stream that watches `head.tflite` uses it while `model.keras` is still being written.

    Args:
        folder: Folder of the run.
        backbone: Backbone of the run.
        trainer: Trainer of the head.
        trained: Head to write.

    Raises:
        ValueError: The exported head predicts something else than Keras.
        OSError: A file cannot be written.
    """
    head, kind = trainer.apply(trained), read_kind(folder)
    folder.save_model(head, _update_card(Card.read(folder.head_path), trained), folder.head_path)
    export_head(folder, kind)
    tagger = build_tagger(backbone.embedders[kind], head)
    folder.save_model(tagger, _update_card(Card.read(folder.model_path), trained))


def _update_card(card: Card, trained: TrainedHead) -> Card:
    origin = f"best F1 on held-out clips and {trained.num_answers} answers of a review"
    return dataclasses.replace(card, thresholds=tuple(trained.thresholds.tolist()), thresholds_origin=origin)
