"""Writing a head that was trained in a review into its run, for `kerastag stream` and `kerastag tag`."""

from __future__ import annotations

import dataclasses

from kerastag.card import Card
from kerastag.custom.base_classes import add_base_classes
from kerastag.custom.embeddings import PretrainedBackbone
from kerastag.custom.exported import export_head
from kerastag.custom.parts import read_kind
from kerastag.custom.tagger import build_tagger
from kerastag.labels import LabelSet
from kerastag.review.retraining import HeadTrainer, TrainedHead
from kerastag.training.run_folder import RunFolder

__all__ = ["write_head"]

_CLASS_FIELDS = ("labels", "thresholds", "thresholds_origin", "event_rules")  # of a card


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
    cards = [_update_card(Card.read(path), trained) for path in (folder.head_path, folder.model_path)]
    if trainer.config.keep_base:
        head, extended = add_base_classes(head, cards[0], backbone, kind)
        changes = {name: getattr(extended, name) for name in _CLASS_FIELDS}
        cards = [dataclasses.replace(card, **changes) for card in cards]
    folder.save_model(head, cards[0], folder.head_path)
    export_head(folder, kind)
    folder.save_model(build_tagger(backbone.embedders[kind], head), cards[1])


def _update_card(card: Card, trained: TrainedHead) -> Card:
    """Return a card for the classes of a trained head alone, which are the first ones of the card."""
    origin = f"best F1 on held-out clips and {trained.num_answers} answers of a review"
    names, labels = trained.clips.class_names, card.labels
    assert labels is not None  # for the type checker
    card = card.with_labels(LabelSet(labels.mids[: len(names)], labels.names[: len(names)]))
    return dataclasses.replace(card, thresholds=tuple(trained.thresholds.tolist()), thresholds_origin=origin)
