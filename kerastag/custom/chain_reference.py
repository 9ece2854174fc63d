"""What training saw of a clip, and what its networks predict, as the reference of the deployed chain."""

from dataclasses import dataclass

import numpy as np

from kerastag._keras import flatten_layers
from kerastag.card import Card
from kerastag.custom.clips import Clips, read_windows
from kerastag.custom.embeddings import MAX_SEGMENTS
from kerastag.custom.parts import read_kind
from kerastag.data.audio_lists import Recording
from kerastag.events import EventRules, find_events, limit_framewise
from kerastag.layers.log_mel import LogMel
from kerastag.models.loading import load_model
from kerastag.training.run_folder import RunFolder

__all__ = ["SEGMENT_SECONDS", "Reference", "TrainingChain", "select_clips"]

SEGMENT_SECONDS = 1.0
"""Length of a segment of a tagger of seconds."""

_MIN_FILLING = 0.95  # of a window by a clip; silence after it changes the embeddings of all frames
_MAX_PART_DIFFERENCE, _MAX_MODEL_DIFFERENCE = 0.1, 0.3  # of a probability for equal inputs; a whole model has 8 bits


@dataclass(frozen=True, eq=False)
class Reference:
    """The first window of a clip in training.

    Attributes:
        recording: Clip.
        waveform: Samples at the rate of the model, `(samples,)`.
        segments: What the embedder took, one second each, or the whole window, `(segments, samples)`.
        embeddings: Embeddings of the segments, or of the output frames of the window, `(segments, features)`.
        clipwise: Probabilities of the bag that ends with each segment, as in a stream, `(segments, classes)`; of the
            window, `(1, classes)`.
        framewise: Probabilities of each segment or output frame, `(segments, classes)`.
        is_window: Whether the model takes the whole window at once.
    """

    recording: Recording
    waveform: np.ndarray
    segments: np.ndarray
    embeddings: np.ndarray
    clipwise: np.ndarray
    framewise: np.ndarray
    is_window: bool = False

    @property
    def name(self) -> str:
        """Name of the clip."""
        return self.recording.name

    @property
    def limited(self) -> np.ndarray:
        """Probabilities of each segment as in the events of a stream, `(segments, classes)`."""
        return limit_framewise(self.framewise[:, None], self.clipwise)[:, 0]

    def find_classes(self, rules: EventRules) -> set[int]:
        """Find the classes that a stream detects; one window is enough for a model of windows."""
        if self.is_window:
            return set(np.flatnonzero((self.clipwise >= rules.onset_thresholds).any(axis=0)).tolist())
        return {event.class_index for event in find_events(self.limited, SEGMENT_SECONDS, rules)}


class TrainingChain:
    """The chain of training: the reader of clips, and the networks that training saved.

    Attributes:
        card: Card of the tagger.
        class_names: Names of the classes.
        channel: Channel of recordings with several.
        is_window: Whether the embedder takes a whole window at once, as does a whole model.
        max_difference: Largest difference of a probability that an exported head, or else a whole model, may have.

    Args:
        folder: Folder of the run.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.
        has_parts: Whether to use the embedder and the head, instead of the whole model.
    """

    def __init__(self, folder: RunFolder, channel: str | int = "mean", has_parts: bool = True) -> None:
        self.card, self.channel = Card.read(folder.model_path), channel
        self.class_names = self.card.labels.names if self.card.labels else ()
        self._embedder = load_model(folder.embedder_path if has_parts else folder.model_path)
        self._head = load_model(folder.head_path) if has_parts else None
        self.is_window = not has_parts or read_kind(folder) == "frames"
        self._bag_segments = _count_segments(Card.read(folder.head_path)) if has_parts else 1
        self.max_difference = _MAX_PART_DIFFERENCE if has_parts else _MAX_MODEL_DIFFERENCE
        front_ends = [layer for layer in flatten_layers(self._embedder) if isinstance(layer, LogMel)]
        self._front_end = front_ends[0] if len(front_ends) == 1 else None

    def compute(self, recording: Recording, embeddings: np.ndarray | None = None) -> Reference:
        """Read the first window of a clip and predict it, with the cached embeddings of the clip where there are any.

        Those of output frames are used only for clips as long as the window, as each depends on all the sound. Errors
        are those of `kerastag.custom.clips.read_windows`.
        """
        rate, seconds = self.card.sample_rate, self.card.window_seconds
        waveform = next(iter(read_windows(recording, rate, seconds, self.channel)))
        segments = self._split(waveform)
        if self._head is None:
            outputs = self._embedder(segments, training=False)
            features, clipwise = np.asarray(outputs["embedding"]), np.asarray(outputs["clipwise"])
            return Reference(recording, waveform, segments, features, clipwise, clipwise, is_window=True)
        if self.is_window:
            is_full = len(waveform) >= _MIN_FILLING * segments.shape[1]
            if embeddings is None or len(embeddings) != self._bag_segments or not is_full:
                embeddings = np.asarray(self._embedder(segments, training=False)["embedding"])[0]
            return Reference(recording, waveform, segments, embeddings, *self._predict(embeddings), is_window=True)
        if embeddings is None or len(embeddings) >= MAX_SEGMENTS:  # Neighboring segments may be averaged.
            embeddings = np.asarray(self._embedder(segments, training=False)["embedding"])
        embeddings = embeddings[: len(segments)]
        return Reference(recording, waveform, segments, embeddings, *self._predict(embeddings))

    def predict(self, embeddings: np.ndarray, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
        """Predict `clipwise` and `framewise` of a `Reference` from embeddings; those of a whole model are its own."""
        return (reference.clipwise, reference.framewise) if self._head is None else self._predict(embeddings)

    def compute_log_mel(self, segment: np.ndarray) -> np.ndarray | None:
        """Compute the log-mel spectrogram of a segment; None for a network that does not have one `LogMel`."""
        return None if self._front_end is None else np.asarray(self._front_end(segment[None]))[0]

    def _split(self, waveform: np.ndarray) -> np.ndarray:
        """Split a waveform as training does; a remainder of at least half a second is padded with zeros."""
        rate = self.card.sample_rate
        size = round(self.card.window_seconds * rate) if self.is_window else rate
        count = 1 if self.is_window else max(1, (len(waveform) + rate // 2) // rate)
        return np.pad(waveform, (0, max(0, count * size - len(waveform))))[: count * size].reshape(count, size)

    def _predict(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._head is not None  # for the type checker: a whole model is not predicted in two parts
        if self.is_window:
            outputs = self._head(embeddings[None], training=False)
            return np.asarray(outputs["clipwise"]), np.asarray(outputs["framewise"])[0]
        count = len(embeddings)
        is_in_bag = np.tri(count, dtype=bool) & ~np.tri(count, k=-self._bag_segments, dtype=bool)
        bags = np.where(is_in_bag[..., None], embeddings, np.float32(0))  # zeros are padding
        outputs = self._head(bags, training=False)
        newest = np.arange(count)
        return np.asarray(outputs["clipwise"]), np.asarray(outputs["framewise"])[newest, newest]


def _count_segments(card: Card) -> int:
    """Return the number of segments that a head takes."""
    return round(card.window_seconds / (card.seconds_per_frame or SEGMENT_SECONDS))


def select_clips(clips: Clips, count: int) -> list[tuple[int, Recording]]:
    """Select at most `count` clips with their rows, spread evenly over those that a stream can be given as they are."""
    rows = [
        (row, clip) for row, clip in enumerate(clips.audio) if isinstance(clip, Recording) and not clip.labeled_parts
    ]
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [rows[place] for place in places]
