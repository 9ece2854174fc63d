"""Tagger: a recording -> the sounds in it, by a model of any format."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping

import numpy as np

from kerastag.card import Card
from kerastag.edge.runtime import HEARD, LiteRTModel, Runtime, is_tflite
from kerastag.events import sounding_probabilities
from kerastag.labels import LabelSet
from kerastag.tagger.keras_model import KerasModel
from kerastag.tagger.listening import Listener, Window
from kerastag.tagger.presets import model_file
from kerastag.tagger.results import Pooled, Tag, Timeline, check_top

__all__ = ["Tagger"]


class Tagger:
    """Recording of any length -> tags, probabilities over time, embeddings.

    A recording is heard in windows as long as the clips that the model was trained on. They follow each other by as
    many whole output frames as fit into one, so that the frames of all windows stand on one even grid; the last window
    begins earlier, so that it is not short. Memory does not grow with the recording. Its probabilities are the maximum
    over windows (a recording has a tag when one of its windows has it), or their mean, weighted by the seconds that
    each window adds. A recording shorter than a window is heard as it is where the model takes any length, which is
    what a mask would give; where the model's length is fixed, zeros are added at the end, and the frames that begin in
    them are left out of the timeline.

    Made by `Tagger.load`.

    >>> import keras, tempfile
    >>> from kerastag.card import write_card
    >>> from kerastag.models.mn import mn
    >>> card = Card(LabelSet.from_names(["Bark", "Rain"]), 32_000, window_seconds=10.0, seconds_per_frame=0.32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/small.keras"
    ...     mn(2, width=0.1, input="waveform").save(path)
    ...     write_card(path, card)
    ...     tagger = Tagger.load(path)
    >>> silence = np.zeros(16_000, "float32")
    >>> [tag.name for tag in tagger.tag(silence, sample_rate=16_000, top=1)][0] in ("Bark", "Rain")
    True
    >>> tagger.timeline(silence, sample_rate=16_000).probabilities.shape
    (4, 2)
    """

    def __init__(self, runtime: Runtime, card: Card, name: str) -> None:
        self.card = card
        self.name = name
        self.outputs = runtime.outputs
        """Names of what the model gives."""
        self._listener = Listener(runtime, card, name)

    @classmethod
    def load(cls, model: str | os.PathLike[str]) -> Tagger:
        """A model file or the name of published weights -> a tagger.

        Args:
            model: A `.keras` or `.tflite` file with its card inside, or one of `PRESETS`: those are fetched and
                imported when they are first used, and kept in the cache folder.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no model, or one without a card, or one that hears neither waveform nor log-mel.
            ImportError: What runs the model is not installed.
        """
        path = model_file(model)
        card = Card.read(path)
        runtime = LiteRTModel(path, inputs=HEARD) if is_tflite(path) else KerasModel(path)
        return cls(runtime, card, os.fspath(model))

    @property
    def labels(self) -> LabelSet:
        """The classes.

        Raises:
            ValueError: The model has none.
        """
        if self.card.labels is None:
            raise ValueError(f"{self.name}: this model knows no classes, it only embeds")
        return self.card.labels

    @property
    def seconds_per_frame(self) -> float:
        """From one output frame to the next.

        Raises:
            ValueError: The model has no probabilities over time.
        """
        return self._listener.frame_seconds()

    def tag(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        *,
        top: int = 5,
        threshold: float = 0.0,
        sample_rate: int | None = None,
        pooling: str = "max",
    ) -> list[Tag]:
        """Recording -> its most probable tags, the first one first.

        Args:
            source: An audio file of any format, or a waveform (samples,) of floats in [-1, 1].
            top: How many tags at most, at least 1.
            threshold: The least probability of a tag, in [0, 1].
            sample_rate: Of the waveform, Hz; for a file, None.
            pooling: `"max"` or `"mean"` over the windows of a recording longer than one.

        Raises:
            ValueError: An argument is outside its range; the model has no classes; or all that `kerastag.audio.load`
                raises for a file.
            OSError: The file is not there or cannot be read.
        """
        check_top(top, threshold)
        return self.best(self.probabilities(source, sample_rate=sample_rate, pooling=pooling), top, threshold)

    def best(self, probabilities: np.ndarray, top: int = 5, threshold: float = 0.0) -> list[Tag]:
        """Probabilities (classes,) -> the `top` highest of at least `threshold` as tags, equals in class order."""
        check_top(top, threshold)
        order = np.argsort(-probabilities, kind="stable")[:top]
        names, mids = self.labels.names, self.labels.mids
        return [Tag(names[k], mids[k], float(probabilities[k])) for k in order if probabilities[k] >= threshold]

    def probabilities(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        *,
        sample_rate: int | None = None,
        pooling: str = "max",
    ) -> np.ndarray:
        """Recording -> probability of every class, (classes,) float32; arguments and errors as of `tag`."""
        over_windows = Pooled(pooling)
        for window, outputs in self.windows(source, "clipwise", sample_rate=sample_rate):
            over_windows.add(outputs["clipwise"], window.new_seconds)
        return over_windows.value

    def timeline(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        *,
        sample_rate: int | None = None,
        pooling: str = "max",
    ) -> Timeline:
        """Recording -> probability of every class in every output frame; arguments and errors as of `tag`.

        A class sounds in a frame where the frame and its window both say so, as
        `kerastag.events.sounding_probabilities` has it. The clip's probabilities are in it too, so one hearing gives
        both. Besides, ValueError: the model has no probabilities over time.
        """
        frame_seconds = self.seconds_per_frame
        over_windows, whole_frames, count, last = Pooled(pooling), [], 0, None
        for window, outputs in self.windows(source, "clipwise", "framewise", sample_rate=sample_rate):
            over_windows.add(outputs["clipwise"], window.new_seconds)
            first = round(window.start_seconds / frame_seconds)
            length = (window.end_seconds - window.start_seconds) / frame_seconds
            framewise = outputs["framewise"][: math.ceil(length - 1e-6)]
            both = np.stack([sounding_probabilities(framewise, outputs["clipwise"]), framewise])
            whole = both[:, : math.floor(length + 1e-6)]
            # What ends with its window has heard less than a frame: the next window's is better.
            whole_frames.append(whole[:, count - first :])
            count, last = max(count, first + whole.shape[1]), both[:, whole.shape[1] :]
            end = window.end_seconds
        probabilities, framewise = np.concatenate([*whole_frames, last], axis=1)
        seconds = frame_seconds * np.arange(len(probabilities))
        return Timeline(seconds, probabilities, over_windows.value, self.labels, end, framewise)

    def embed(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        *,
        sample_rate: int | None = None,
        segment_seconds: float | None = None,
    ) -> np.ndarray:
        """Recording -> its embedding (features,), or one for each of its segments (segments, features), float32.

        Args:
            source: As of `tag`.
            sample_rate: As of `tag`.
            segment_seconds: Length of a segment, seconds; the last one begins earlier, so that it is whole. None
                gives one embedding, the mean over windows, weighted by the seconds that each adds.

        Raises:
            ValueError: As of `tag`; the model gives no embedding; a segment is shorter than the model can hear, or
                longer than its input.
        """
        if segment_seconds is None:
            over_windows = Pooled("mean")
            for window, outputs in self._listener.windows(source, sample_rate, "embedding"):
                over_windows.add(outputs["embedding"], window.new_seconds)
            return over_windows.value
        self._listener.check_segment(segment_seconds)
        heard = self._listener.windows(source, sample_rate, "embedding", segment_seconds=segment_seconds)
        return np.stack([outputs["embedding"] for _, outputs in heard])

    def windows(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        *names: str,
        sample_rate: int | None = None,
    ) -> Iterator[tuple[Window, Mapping[str, np.ndarray]]]:
        """Recording -> each of its windows in order, with what the model's outputs of these names say of it.

        What `tag` and `timeline` are made of, and the way to outputs of a model's own, such as where the windows of
        GL-AT lie.

        Args:
            source: As of `tag`.
            names: Some of `outputs`.
            sample_rate: As of `tag`.

        Raises:
            ValueError: As of `tag`; the model has no output of that name.
        """
        _ = self.labels
        return self._listener.windows(source, sample_rate, *names)
