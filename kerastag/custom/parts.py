"""The two parts of a tagger, `embedder.keras` and `head.keras`, which a device runs one after the other."""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from kerastag.card import Card
from kerastag.custom.embeddings import Kind, PretrainedBackbone
from kerastag.models.weights import compute_fingerprint
from kerastag.training.run_folder import RunFolder

__all__ = ["choose_window", "read_kind", "save_parts"]

_MAX_WINDOW_SECONDS = 10.0
_BAG_SECONDS = 3.0  # of a tagger of seconds


def choose_window(kind: Kind, lengths: Sequence[int] | np.ndarray, card: Card) -> float:
    """Choose the window of a tagger, in seconds.

    That of a tagger of seconds is the window of its backbone. That of a tagger of output frames is as long as the
    median clip, a whole number of output frames, and at most ten seconds and the window of the backbone.

    Args:
        kind: What a bag consists of.
        lengths: Number of segments of the clips.
        card: Card of the backbone.
    """
    if kind == "seconds" or not card.seconds_per_frame:
        return card.window_seconds
    most = int(min(_MAX_WINDOW_SECONDS, card.window_seconds) / card.seconds_per_frame)
    return max(1, min(most, round(float(np.median(lengths))))) * card.seconds_per_frame


def save_parts(folder: RunFolder, backbone: PretrainedBackbone, kind: Kind, head: keras.Model, card: Card) -> None:
    """Save the two parts of a tagger, whose cards have the same fingerprint of the embedder.

    The embedder of a tagger of seconds takes one second, and a device runs it once per second. The head takes the last
    three of them: in the average of ten, a short sound has little weight. The embedder of a tagger of output frames
    takes a window, and the head takes all of its frames.

    Args:
        folder: Folder of the run.
        backbone: Backbone of the tagger.
        kind: What a bag consists of.
        head: Head of the tagger.
        card: Card of the tagger.
    """
    model = backbone.clip_embedder if kind == "seconds" else backbone.embedders["frames"]
    embedder = keras.Model(model.input, {"embedding": model.output}, name="embedder")
    versions = {**card.versions, "embedder": compute_fingerprint(embedder)}
    window_seconds, seconds_per_frame = 1.0, None
    head_seconds = min(card.window_seconds, _BAG_SECONDS)
    if kind == "frames":
        window_seconds, seconds_per_frame = card.window_seconds, card.seconds_per_frame
        silence = np.zeros((1, round(window_seconds * card.sample_rate)), np.float32)
        head_seconds = len(embedder.predict_on_batch(silence)["embedding"][0]) * (seconds_per_frame or 1.0)
    embedder_card = Card(
        labels=None,
        sample_rate=card.sample_rate,
        window_seconds=window_seconds,
        seconds_per_frame=seconds_per_frame,
        front_end=card.front_end,
        origin=card.origin,
        versions=versions,
    )
    folder.save_model(embedder, embedder_card, folder.embedder_path)
    folder.save_model(head, replace(card, versions=versions, window_seconds=head_seconds), folder.head_path)


def read_kind(folder: RunFolder) -> Kind:
    """Read from the card of its embedder what the bags of a run consist of.

    Raises:
        FileNotFoundError: The run has no parts.
    """
    if not folder.embedder_path.is_file():
        raise FileNotFoundError(f"{folder.embedder_path}: no such file; a run of an earlier version may have no parts")
    return "seconds" if Card.read(folder.embedder_path).seconds_per_frame is None else "frames"
