"""A recording -> the sounds in it: load a model of any format, tag a file or an array of any length."""

from __future__ import annotations

import itertools
import math
import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soxr

from kerastag import __version__, audio, fetch
from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.labels import LabelSet

__all__ = ["POOLINGS", "PRESETS", "Tag", "Tagger", "Timeline", "model_file"]

_EFFICIENTAT = "mn04_as", "mn05_as", "mn10_as", "mn20_as", "mn30_as", "mn40_as", "mn40_as_ext"
# Preset -> reader in `kerastag.weights`, and the public files that it reads.
_SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("efficientat", (name,)) for name in _EFFICIENTAT},
    **{name: ("panns", (name,)) for name in ("panns_cnn10", "panns_resnet38")},
    "vggish": ("vggish", ("vggish_checkpoint", "vggish_pca")),
}
PRESETS = tuple(_SOURCES)
"""Names of published weights that `Tagger.load` takes."""
POOLINGS = ("max", "mean")
"""How the windows of a long recording become one clip."""

_INPUTS = ("waveform", "log_mel")
_OUTPUTS = ("clipwise", "framewise", "embedding")
_SECONDS_AT_ONCE = 40  # of audio in one batch: what a wide CNN makes of it still fits a small machine


class Tag(NamedTuple):
    """One sound that was heard: the class's display name, its identifier, its probability in [0, 1]."""

    name: str
    mid: str
    probability: float


class Timeline(NamedTuple):
    """Which class sounds when.

    `seconds` (frames,) is where each output frame begins, evenly spaced; `probabilities` (frames, classes) and
    `clipwise` (classes,) are in [0, 1]; `labels` are the classes; `duration_seconds` is how long the recording is.
    """

    seconds: np.ndarray
    probabilities: np.ndarray
    clipwise: np.ndarray
    labels: LabelSet
    duration_seconds: float

    @property
    def edges(self) -> np.ndarray:
        """Where each frame begins, and where the last one ends: (frames + 1,)."""
        return np.append(self.seconds, self.duration_seconds)


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

    def __init__(self, runtime: _Runtime, card: Card, name: str) -> None:
        self.card = card
        self.name = name
        self._runtime = runtime
        self._front_end = FrontEnd.from_dict(dict(card.front_end)) if card.front_end else None
        self._window_seconds = card.window_seconds
        self._fit_to_input()

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
        with path.open("rb") as file:
            is_tflite = file.read(8)[4:] == b"TFL3"
        return cls(_LiteRTModel(path) if is_tflite else _KerasModel(path), card, os.fspath(model))

    @property
    def labels(self) -> LabelSet:
        """The classes.

        Raises:
            ValueError: The model has none.
        """
        if self.card.labels is None:
            raise ValueError(f"{self.name}: this model knows no classes, it only embeds")
        return self.card.labels

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
        _check_top(top, threshold)
        return self.best(self.probabilities(source, sample_rate=sample_rate, pooling=pooling), top, threshold)

    def best(self, probabilities: np.ndarray, top: int = 5, threshold: float = 0.0) -> list[Tag]:
        """Probabilities (classes,) -> the `top` highest of at least `threshold` as tags, equals in class order."""
        _check_top(top, threshold)
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
        over_windows = _Pooled(pooling)
        for window, outputs in self._listen(source, sample_rate, "clipwise"):
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

        The clip's probabilities are in it too, so one hearing gives both. Besides, ValueError: the model has no
        probabilities over time.
        """
        frame_seconds = self._frame_seconds()
        over_windows, whole_frames, count, last = _Pooled(pooling), [], 0, None
        for window, outputs in self._listen(source, sample_rate, "clipwise", "framewise"):
            over_windows.add(outputs["clipwise"], window.new_seconds)
            first = round(window.start_seconds / frame_seconds)
            length = (window.end_seconds - window.start_seconds) / frame_seconds
            framewise = outputs["framewise"][: math.ceil(length - 1e-6)]
            whole = framewise[: math.floor(length + 1e-6)]
            # What ends with its window has heard less than a frame: the next window's is better.
            whole_frames.append(whole[count - first :])
            count, last = max(count, first + len(whole)), framewise[len(whole) :]
            end = window.end_seconds
        probabilities = np.concatenate([*whole_frames, last])
        seconds = frame_seconds * np.arange(len(probabilities))
        return Timeline(seconds, probabilities, over_windows.value, self.labels, end)

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
            over_windows = _Pooled("mean")
            for window, outputs in self._listen(source, sample_rate, "embedding"):
                over_windows.add(outputs["embedding"], window.new_seconds)
            return over_windows.value
        self._check_segment(segment_seconds)
        heard = self._listen(source, sample_rate, "embedding", segment_seconds=segment_seconds)
        return np.stack([outputs["embedding"] for _, outputs in heard])

    def _listen(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None,
        *names: str,
        segment_seconds: float | None = None,
    ) -> Iterator[tuple[_Heard, Mapping[str, np.ndarray]]]:
        """Each window of a recording with what the model's outputs of these names say of it."""
        if "clipwise" in names:
            _ = self.labels
        if missing := [name for name in names if name not in self._runtime.outputs]:
            raise ValueError(f"{self.name}: this model has no output `{missing[0]}`")
        seconds = segment_seconds or self._window_seconds
        grid = 0.0 if segment_seconds else self.card.seconds_per_frame or 0.0
        windows = self._windows(self._at_rate(source, sample_rate), seconds, grid)
        for batch in _batches(windows, max(1, int(_SECONDS_AT_ONCE / seconds))):
            outputs = self._run(np.stack([window.waveform for window in batch]))
            for item, window in enumerate(batch):
                yield window, {name: outputs[name][item] for name in names}

    def _at_rate(
        self, source: str | os.PathLike[str] | np.ndarray, sample_rate: int | None
    ) -> str | os.PathLike[str] | np.ndarray:
        if not isinstance(source, np.ndarray):
            if sample_rate is not None:
                raise ValueError(f"`sample_rate` is for a waveform, a file has its own, received {sample_rate!r}")
            return source
        if sample_rate is None:
            raise ValueError("`sample_rate` must be given with a waveform, received None")
        if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
            allowed = f"from {audio.MIN_SAMPLE_RATE} to {audio.MAX_SAMPLE_RATE} Hz"
            raise ValueError(f"`sample_rate` must be {allowed}, received {sample_rate!r}")
        audio.check(source)
        if sample_rate == self.card.sample_rate:
            return source
        return soxr.resample(source.astype(np.float32), sample_rate, self.card.sample_rate, quality="HQ")

    def _windows(
        self, source: str | os.PathLike[str] | np.ndarray, seconds: float, grid_seconds: float
    ) -> Iterator[_Heard]:
        """Windows that begin on a grid; the last one begins as much earlier as the grid allows."""
        rate, before, before_end = self.card.sample_rate, None, 0.0
        step = max(1, round(grid_seconds * rate))
        length = round(seconds * rate)
        hop = max(length // step, 1) * step if step <= length else length
        for start, waveform, valid_seconds in audio.windows(source, rate, seconds, hop / rate):
            valid = round(valid_seconds * rate)
            end = start + valid_seconds
            if valid < length:
                waveform = waveform[:valid]
                if before is not None:
                    earlier = (length - valid) // step * step
                    waveform = np.concatenate([before[hop - earlier : hop], waveform])
                    start -= earlier / rate
                waveform = np.pad(waveform, (0, max(0, self._shortest() - len(waveform))))
            yield _Heard(start, end, end - before_end, waveform)
            before, before_end = waveform, end

    def _run(self, waveforms: np.ndarray) -> Mapping[str, np.ndarray]:
        """(batch, samples) -> outputs by name."""
        if self._runtime.length is not None:
            missing = round(self._window_seconds * self.card.sample_rate) - waveforms.shape[1]
            waveforms = np.pad(waveforms, [(0, 0), (0, missing)])
        if self._runtime.input == "waveform":
            return self._runtime(waveforms)
        return self._runtime(self._required_front_end().log_mel(waveforms))

    def _fit_to_input(self) -> None:
        """A fixed input length is the window's; log-mel needs the front end that the card has."""
        length = self._runtime.length
        if self._runtime.input == "waveform":
            if length is not None:
                self._window_seconds = length / self.card.sample_rate
            return
        frames = self._required_front_end().num_frames(round(self._window_seconds * self.card.sample_rate))
        if length not in (None, frames):
            raise ValueError(
                f"{self.name}: its input has {length} log-mel frames, its card's window of {self._window_seconds:g} s "
                f"gives {frames}"
            )

    def _required_front_end(self) -> FrontEnd:
        if self._front_end is None:
            raise ValueError(f"{self.name}: it hears log-mel, but its card has no `front_end`")
        return self._front_end

    def _shortest(self) -> int:
        """Samples that fill one output frame: the networks give nothing for less."""
        if self._front_end is None:
            return 1
        per_second = self._front_end.frames_per_second
        frames = max(1, math.ceil((self.card.seconds_per_frame or 0) * per_second - 1e-6))
        return self._front_end.min_samples + (frames - 1) * self._front_end.hop_length

    def _check_segment(self, seconds: float) -> None:
        rate = self.card.sample_rate
        longest = math.inf if self._runtime.length is None else self._window_seconds
        if not self._shortest() <= seconds * rate + 1e-6 or not seconds <= longest or seconds == math.inf:
            allowed = f"at least {self._shortest() / rate:g}" + (f" and at most {longest:g}" if longest < 1e9 else "")
            raise ValueError(f"`segment_seconds` must be {allowed}, received {seconds!r}")

    def _frame_seconds(self) -> float:
        if self.card.seconds_per_frame is None or "framewise" not in self._runtime.outputs:
            raise ValueError(f"{self.name}: this model has no probabilities over time")
        return self.card.seconds_per_frame


class _Heard(NamedTuple):
    """One window: where it begins and ends in the recording, the seconds that no window before it has, its samples."""

    start_seconds: float
    end_seconds: float
    new_seconds: float
    waveform: np.ndarray


class _Pooled:
    """The maximum or the weighted mean of arrays that come one by one."""

    def __init__(self, pooling: str) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}, received {pooling!r}")
        self._pooling = pooling
        self._total: Any = None
        self._weight = 0.0

    def add(self, value: np.ndarray, weight: float) -> None:
        if self._pooling == "mean":
            value = value.astype(np.float64) * weight
            self._total = value if self._total is None else self._total + value
        else:
            self._total = value if self._total is None else np.maximum(self._total, value)
        self._weight += weight

    @property
    def value(self) -> np.ndarray:
        return (self._total / self._weight if self._pooling == "mean" else self._total).astype(np.float32)


class _Runtime(Protocol):
    """What runs a model: arrays (batch, ...) -> outputs by name.

    `input` is `"waveform"` or `"log_mel"`; `length` its samples or frames, None where it takes any number; `outputs`
    are the names of what it gives.
    """

    input: str
    length: int | None
    outputs: tuple[str, ...]

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]: ...


class _KerasModel:
    """A `.keras` file on whichever backend Keras has."""

    def __init__(self, path: Path) -> None:
        try:
            import keras

            import kerastag.layers
        except ImportError as error:
            raise ImportError(f"{path}: running it needs Keras: pip install 'kerastag[train]'") from error
        for module in pkgutil.iter_modules(kerastag.layers.__path__):
            import_module(f"kerastag.layers.{module.name}")  # so that Keras finds the class that a file names
        try:
            self._model = keras.saving.load_model(path, compile=False)
        except Exception as error:  # a damaged file can end in any error of zipfile, json, h5py or Keras
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: is no Keras model that can be loaded ({reason})") from error
        # TensorFlow's graph takes any length; XLA compiles anew for each, and is slower on the CPU.
        self._model.jit_compile = keras.backend.backend() != "tensorflow"
        self.input = _only_input(path, [tensor.name for tensor in self._model.inputs])
        self.length = self._model.inputs[0].shape[1]
        outputs = self._model.output
        self.outputs = tuple(outputs) if isinstance(outputs, dict) else _OUTPUTS[:1]

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._model.predict_on_batch(batch)
        return outputs if isinstance(outputs, dict) else {self.outputs[0]: outputs}


class _LiteRTModel:
    """A `.tflite` file in a LiteRT interpreter, clip by clip; no framework."""

    def __init__(self, path: Path, num_threads: int | None = None) -> None:
        interpreter = _interpreter_class(path)(model_path=os.fspath(path), num_threads=num_threads)
        signatures = interpreter.get_signature_list()
        if len(signatures) != 1:
            raise ValueError(f"{path}: must have one signature, received {len(signatures)}")
        self._run = interpreter.get_signature_runner(next(iter(signatures)))
        details = self._run.get_input_details()
        self.input = _only_input(path, list(details))
        (detail,) = details.values()
        self._key, self._shape = next(iter(details)), tuple(int(size) for size in detail["shape"])
        if detail["dtype"] is not np.float32 or self._shape[0] != 1:
            received = f"{np.dtype(detail['dtype']).name} of shape {self._shape}"
            raise ValueError(f"{path}: its input must be float32 with a batch of 1, received {received}")
        self.length: int | None = self._shape[1]
        names = tuple(self._run.get_output_details())
        self._names = {name: name for name in names} if len(names) > 1 else {names[0]: _OUTPUTS[0]}
        self.outputs = tuple(self._names.values())

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        clips = [self._run(**{self._key: clip[None]}) for clip in batch]
        return {ours: np.concatenate([clip[theirs] for clip in clips]) for theirs, ours in self._names.items()}


def _interpreter_class(path: Path) -> Any:
    for package in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            return import_module(package).Interpreter
        except ImportError:
            continue
    raise ImportError(f"{path}: running it needs a LiteRT interpreter: pip install 'kerastag[edge]'")


def _only_input(path: Path, names: list[str]) -> str:
    if len(names) != 1 or names[0] not in _INPUTS:
        raise ValueError(f"{path}: must have one input, {' or '.join(_INPUTS)}, received {', '.join(names)}")
    return names[0]


def model_file(model: str | os.PathLike[str]) -> Path:
    """A model file, or the name of published weights -> the file; those are fetched and imported when first used.

    Args:
        model: Path of a `.keras` or `.tflite` file, or one of `PRESETS`.

    Returns:
        The path, or that of the preset's `.keras` file in the cache, made when it is missing or outdated.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder; a preset's weights are damaged.
        OSError: A preset's weights cannot be fetched.

    >>> model_file("mn03_as")
    Traceback (most recent call last):
    FileNotFoundError: `model` must be a file or one of mn04_as, ... received 'mn03_as'
    """
    name = os.fspath(model)
    if name in _SOURCES:
        return _imported(name)
    if Path(name).is_dir():
        raise ValueError(f"{name}: must be a .keras or .tflite file, received a folder")
    if not Path(name).is_file():
        raise FileNotFoundError(f"`model` must be a file or one of {', '.join(PRESETS)}, received {name!r}")
    return Path(name)


def _imported(preset: str) -> Path:
    importer, files = _SOURCES[preset]
    made = fetch.cache_folder() / f"{preset}.keras"
    sources = [fetch.cache_folder() / fetch.FILES[name].file_name for name in files]
    if not _is_current(made, sources):
        reader = import_module(f"kerastag.weights.{importer}")
        getattr(reader, f"import_{importer}")(*map(fetch.fetch, files), made)
    return made


def _is_current(made: Path, sources: Iterable[Path]) -> bool:
    if not made.is_file() or any(path.is_file() and path.stat().st_mtime > made.stat().st_mtime for path in sources):
        return False
    try:
        return Card.read(made).versions.get("kerastag") == __version__
    except ValueError:
        return False


def _batches(windows: Iterable[_Heard], size: int) -> Iterator[list[_Heard]]:
    """Windows in order -> lists of at most `size` of one length."""
    for _, equal in itertools.groupby(windows, key=lambda window: len(window.waveform)):
        while batch := list(itertools.islice(equal, size)):
            yield batch


def _check_top(top: int, threshold: float) -> None:
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise ValueError(f"`top` must be a whole number of at least 1, received {top!r}")
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must lie in [0, 1], received {threshold!r}")
