"""The tagger of recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from kerastag.card import Card
from kerastag.edge.runtime import AUDIO_INPUTS, LiteRTModel, Runtime, get_single_input, is_tflite
from kerastag.events import limit_framewise
from kerastag.labels import LabelSet
from kerastag.tagger.engines import prepare_model
from kerastag.tagger.results import Tag, Timeline, WindowFrames, WindowPooling, check_tag_limits
from kerastag.tagger.windows import Recording, Window, WindowPredictor

__all__ = ["Tagger", "load_runtime"]


class Tagger:
    """A tagger of recordings of any length: tags, probabilities over time and embeddings.

    The model processes a recording in windows as long as the clips that it was trained on, in memory that does not grow
    with the recording. The distance between windows is the largest number of whole output frames that fits into one, so
    that the frames of all windows lie on one grid. The last window starts earlier, so that it has the same length. The
    probabilities of a recording are the maximum over its windows, or their mean, weighted by the seconds that each
    window adds.

    A recording shorter than a window is processed in its own length where the model takes any length, which has the
    effect of a mask. Where the length of the input is fixed, the recording is padded with zeros, and frames that begin
    in the padding are removed from the timeline.

    Use `Tagger.load` to create one.

    Args:
        runtime: Model that processes batches of windows.
        card: Card of the model.
        name: Name of the model in error messages.

    Raises:
        ValueError: The card does not fit the model.

    >>> import kerastag
    >>> tagger = kerastag.Tagger.load("esc10")
    >>> silence = np.zeros(16_000, "float32")
    >>> len(tagger.tag(silence, sample_rate=16_000, top=3))
    3
    >>> tagger.predict_timeline(silence, sample_rate=16_000).probabilities.shape
    (4, 10)
    """

    def __init__(self, runtime: Runtime, card: Card, name: str) -> None:
        self.card = card
        self.name = name
        self.outputs = runtime.outputs
        """Names of the outputs of the model."""
        self._predictor = WindowPredictor(runtime, card, name)

    @classmethod
    def load(cls, model: str | os.PathLike[str], *, engine: str = "auto", num_threads: int | None = None) -> Tagger:
        """Load a model file or a preset.

        Args:
            model: Path of a `.keras` or `.tflite` file with its card, or one of `PRESETS`, as for `fetch_model`.
            engine: What runs published weights: `"litert"`, for which they are exported once, to the cache folder, in a
                process of its own; `"keras"`; or `"auto"`, LiteRT where it and TensorFlow are installed, otherwise
                Keras. A file is always run by the engine of its format.
            num_threads: Number of threads of the interpreter of a `.tflite` file; None leaves it to the interpreter.

        Raises:
            FileNotFoundError: `model` is neither a file nor a preset.
            ValueError: The file is not a model, has no card, or takes neither a waveform nor log-mel; or `engine` is
                unknown or cannot run it.
            ImportError: The package that runs the model is not installed.
        """
        path = prepare_model(model, engine)
        card = Card.read(path)
        return cls(load_runtime(path, num_threads), card, os.fspath(model))

    @property
    def labels(self) -> LabelSet:
        """Classes of the model; a ValueError for a model without any."""
        if self.card.labels is None:
            raise ValueError(f"{self.name}: must have classes; received: a model of embeddings")
        return self.card.labels

    @property
    def seconds_per_frame(self) -> float:
        """Hop from one output frame to the next, seconds; a ValueError for a model without output frames."""
        return self._predictor.seconds_per_frame

    def tag(
        self,
        source: Recording,
        *,
        top: int = 5,
        threshold: float = 0.0,
        sample_rate: int | None = None,
        pooling: str = "max",
        channel: str | int = "mean",
    ) -> list[Tag]:
        """Return the most probable tags of a recording.

        Args:
            source: Path of an audio file of any format, or a waveform `(samples,)` of floats in [-1, 1].
            top: Largest number of tags, at least 1.
            threshold: Lowest probability of a tag, in [0, 1].
            sample_rate: Sample rate of the waveform, Hz; None for a file.
            pooling: `"max"` or `"mean"` over the windows of a recording.
            channel: What to make of several channels of a file, as in `kerastag.audio.load`.

        Returns:
            Tags in descending order of probability.

        Raises:
            ValueError: An argument is out of range, the model has no classes, or `kerastag.audio.load` raises it for
                the file.
            OSError: The file does not exist or cannot be read.
        """
        check_tag_limits(top, threshold)
        return self.select_tags(
            self.predict(source, sample_rate=sample_rate, pooling=pooling, channel=channel), top, threshold
        )

    def select_tags(self, probabilities: np.ndarray, top: int = 5, threshold: float = 0.0) -> list[Tag]:
        """Return the `top` highest probabilities `(classes,)` of at least `threshold` as tags, ties in class order."""
        check_tag_limits(top, threshold)
        order = np.argsort(-probabilities, kind="stable")[:top]
        names, mids = self.labels.names, self.labels.mids
        return [Tag(names[k], mids[k], float(probabilities[k])) for k in order if probabilities[k] >= threshold]

    def predict(
        self,
        source: Recording,
        *,
        sample_rate: int | None = None,
        pooling: str = "max",
        channel: str | int = "mean",
    ) -> np.ndarray:
        """Predict the probability of every class in a recording, in [0, 1], float32 `(classes,)`.

        Arguments and errors are those of `tag`.
        """
        clipwise = WindowPooling(pooling)
        for window, outputs in self.predict_windows(source, "clipwise", sample_rate=sample_rate, channel=channel):
            clipwise.add(outputs["clipwise"], window.new_seconds)
        return clipwise.value

    def predict_timeline(
        self,
        source: Recording,
        *,
        sample_rate: int | None = None,
        pooling: str = "max",
        channel: str | int = "mean",
    ) -> Timeline:
        """Predict the probability of every class in every output frame of a recording, and in the recording.

        A class is as probable in a frame as both the frame and its window predict; see
        `kerastag.events.limit_framewise`. Arguments and errors are those of `tag`; a model without probabilities over
        time is a ValueError, too.
        """
        clipwise, parts = WindowPooling(pooling), []
        for frames in self.predict_frames(source, sample_rate=sample_rate, channel=channel):
            clipwise.add(frames.clipwise, frames.window.new_seconds)
            parts.append(np.stack([frames.probabilities, frames.framewise]))
        probabilities, framewise = np.concatenate(parts, axis=1)
        seconds = self.seconds_per_frame * np.arange(len(probabilities))
        duration_seconds = frames.window.end_seconds
        return Timeline(seconds, probabilities, clipwise.value, self.labels, duration_seconds, framewise)

    def predict_frames(
        self, source: Recording, *output_names: str, sample_rate: int | None = None, channel: str | int = "mean"
    ) -> Iterator[WindowFrames]:
        """Predict what `predict_timeline` does window by window, in memory that does not grow with the recording.

        Yields:
            For each window, its probabilities, the output frames that follow those of the windows before, and further
            outputs of the model by `output_names`.
        """
        frame_seconds, num_frames = self.seconds_per_frame, 0
        frames: WindowFrames | None = None
        names = ("clipwise", "framewise", *output_names)
        for window, outputs in self.predict_windows(source, *names, sample_rate=sample_rate, channel=channel):
            if frames is not None:
                yield frames
            first = round(window.start_seconds / frame_seconds)
            length = (window.end_seconds - window.start_seconds) / frame_seconds
            framewise = outputs["framewise"][: math.ceil(length - 1e-6)]
            num_whole = math.floor(length + 1e-6)
            new, partial = slice(num_frames - first, num_whole), slice(num_whole, None)
            num_frames = max(num_frames, first + num_whole)
            limited = limit_framewise(framewise, outputs["clipwise"])
            frames = WindowFrames(window, outputs["clipwise"], limited[new], framewise[new], outputs)
        # A frame that ends with its window comes from less audio than the same frame of the next window, so that only
        # the last one is used.
        assert frames is not None  # for the type checker: every recording has a window
        probabilities = np.concatenate([frames.probabilities, limited[partial]])
        yield frames._replace(
            probabilities=probabilities, framewise=np.concatenate([frames.framewise, framewise[partial]])
        )

    def embed(
        self,
        source: Recording,
        *,
        sample_rate: int | None = None,
        segment_seconds: float | None = None,
        channel: str | int = "mean",
    ) -> np.ndarray:
        """Compute the embedding of a recording, or one for each of its segments.

        Args:
            source: Recording, as for `tag`.
            sample_rate: Sample rate of the waveform, Hz; None for a file.
            segment_seconds: Length of a segment, seconds; the last one starts earlier, so that it has the same length.
                None computes one embedding, the mean over windows, weighted by the seconds that each adds.
            channel: What to make of several channels of a file, as in `kerastag.audio.load`.

        Returns:
            Embedding, float32 `(features,)`, or `(segments, features)` where `segment_seconds` is given.

        Raises:
            ValueError: The model has no embedding, does not allow the length, or as in `tag`.
            OSError: The file does not exist or cannot be read.
        """
        windows = self.embed_windows(source, sample_rate=sample_rate, segment_seconds=segment_seconds, channel=channel)
        if segment_seconds is not None:
            return np.stack([embedding for _, embedding in windows])
        mean = WindowPooling("mean")
        for window, embedding in windows:
            mean.add(embedding, window.new_seconds)
        return mean.value

    def embed_windows(
        self,
        source: Recording,
        *,
        sample_rate: int | None = None,
        segment_seconds: float | None = None,
        channel: str | int = "mean",
    ) -> Iterator[tuple[Window, np.ndarray]]:
        """Return the windows or segments of a recording in order, each with its embedding, float32 `(features,)`.

        Memory does not grow with the recording. Arguments and errors are those of `embed`.
        """
        windows = self._predictor.predict(
            source, sample_rate, "embedding", segment_seconds=segment_seconds, channel=channel
        )
        return ((window, outputs["embedding"]) for window, outputs in windows)

    def predict_windows(
        self,
        source: Recording,
        *output_names: str,
        sample_rate: int | None = None,
        channel: str | int = "mean",
    ) -> Iterator[tuple[Window, Mapping[str, np.ndarray]]]:
        """Return the windows of a recording in order, each with some of the `outputs` of the model.

        They include outputs that only some models have, such as the positions of the sub-clips that GL-AT selects.
        Arguments and errors are those of `tag`; a name that is not one of `outputs` is a ValueError, too.
        """
        _ = self.labels  # raises where there are none
        return self._predictor.predict(source, sample_rate, *output_names, channel=channel)


def load_runtime(path: Path, num_threads: int | None = None) -> Runtime:
    """Load what runs a `.tflite` or `.keras` file of a model that takes audio; errors are those of `Tagger.load`."""
    return LiteRTModel(path, num_threads, inputs=AUDIO_INPUTS) if is_tflite(path) else _KerasModel(path)


class _KerasModel:
    """A `.keras` file on the backend that Keras uses; implements `kerastag.edge.runtime.Runtime`."""

    def __init__(self, path: Path) -> None:
        try:
            import keras

            from kerastag.models.loading import load_model
        except ImportError as error:
            raise ImportError(f"{path}: running it needs Keras: pip install 'kerastag[train]'") from error
        self._model = load_model(path)
        # A graph of TensorFlow takes any length; XLA compiles again for each, and is slower on the CPU.
        self._model.jit_compile = keras.backend.backend() != "tensorflow"
        self.input = get_single_input(path, [tensor.name for tensor in self._model.inputs], AUDIO_INPUTS)
        self.length = self._model.inputs[0].shape[1]
        self.outputs = tuple(self._model.output) if isinstance(self._model.output, dict) else ("clipwise",)

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._model.predict_on_batch(batch)
        return outputs if isinstance(outputs, dict) else {self.outputs[0]: outputs}
