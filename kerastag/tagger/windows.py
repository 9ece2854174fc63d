"""Windows of recordings of any length, with the outputs of a model for each."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import soxr

from kerastag import audio
from kerastag.audio.request import check_sample_rate
from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.edge.runtime import Runtime

__all__ = ["Recording", "Window", "WindowPredictor"]

Recording = str | os.PathLike[str] | np.ndarray | Iterator[np.ndarray]
"""Path of an audio file, a waveform `(samples,)`, or an iterator over its blocks at the sample rate of the model."""
_SECONDS_PER_BATCH = 40  # the activations of a wide CNN for so much audio fit a small machine


class Window(NamedTuple):
    """One window of a recording.

    `new_seconds` is the duration of the part that no earlier window contains. `waveform` is float32 `(samples,)`.
    """

    start_seconds: float
    end_seconds: float
    new_seconds: float
    waveform: np.ndarray


class WindowPredictor:
    """A model that processes recordings window by window, as described for `Tagger`.

    It raises a ValueError if the model takes log-mel and its card lacks the front end or has another window length.
    """

    def __init__(self, runtime: Runtime, card: Card, name: str) -> None:
        self._runtime = runtime
        self._card = card
        self._name = name
        self._front_end = FrontEnd.from_dict(dict(card.front_end)) if card.front_end else None
        self._window_seconds = card.window_seconds
        length = runtime.length
        if runtime.input == "waveform":
            if length is not None:
                self._window_seconds = length / card.sample_rate
        elif self._front_end is None:
            raise ValueError(f"{name}: the card of a model that takes log-mel must have `front_end`")
        else:
            frames = self._front_end.count_frames(round(card.window_seconds * card.sample_rate))
            if length not in (None, frames):
                raise ValueError(
                    f"{name}: the card's window of {card.window_seconds:g} s must have {length} log-mel frames, the "
                    f"length of the input; received: {frames}"
                )

    @property
    def seconds_per_frame(self) -> float:
        """Hop from one output frame to the next, seconds; a ValueError for a model without output frames."""
        if self._card.seconds_per_frame is None or "framewise" not in self._runtime.outputs:
            expected, outputs = "the output `framewise`, probabilities over time", ", ".join(self._runtime.outputs)
            raise ValueError(f"{self._name}: must have {expected}; received: {outputs}")
        return self._card.seconds_per_frame

    def predict(
        self,
        source: Recording,
        sample_rate: int | None,
        *output_names: str,
        segment_seconds: float | None = None,
        channel: str | int = "mean",
    ) -> Iterator[tuple[Window, Mapping[str, np.ndarray]]]:
        """Yield each window of a recording with some outputs of the model, or segments without overlap."""
        if missing := [name for name in output_names if name not in self._runtime.outputs]:
            outputs = ", ".join(self._runtime.outputs)
            raise ValueError(f"{self._name}: must have the output `{missing[0]}`; received: {outputs}")
        seconds, grid_seconds = self._window_seconds, self._card.seconds_per_frame or 0.0
        if segment_seconds is not None:
            self._check_segment(segment_seconds)
            seconds, grid_seconds = segment_seconds, 0.0
        windows = self._split(self._resample(source, sample_rate), seconds, grid_seconds, channel)
        for batch in _make_batches(windows, max(1, int(_SECONDS_PER_BATCH / seconds))):
            waveforms = [window.waveform for window in batch]
            outputs_by_name = self._run(waveforms[0][None] if len(batch) == 1 else np.stack(waveforms))
            for item, window in enumerate(batch):
                yield window, {name: outputs_by_name[name][item] for name in output_names}

    def _resample(self, source: Recording, sample_rate: int | None) -> Recording:
        if not isinstance(source, np.ndarray):
            if sample_rate is not None:
                raise ValueError(f"`sample_rate` must be None for a file, which has its own; received: {sample_rate!r}")
            return source
        if sample_rate is None:
            raise ValueError("`sample_rate` must be given for a waveform; received: None")
        check_sample_rate(sample_rate, "`sample_rate`")
        audio.measure_levels(source)
        if sample_rate == self._card.sample_rate:
            return source
        return soxr.resample(source.astype(np.float32), sample_rate, self._card.sample_rate, quality="HQ")

    def _split(self, source: Recording, seconds: float, grid_seconds: float, channel: str | int) -> Iterator[Window]:
        """Yield windows that start on a grid; the last one starts as much earlier as the grid allows."""
        sample_rate = self._card.sample_rate
        step = max(1, round(grid_seconds * sample_rate))
        length = round(seconds * sample_rate)
        hop = max(length // step, 1) * step if step <= length else length
        previous, previous_end = None, 0.0
        windows = audio.read_windows(source, sample_rate, seconds, hop / sample_rate, channel=channel)
        for start, waveform, valid_seconds in windows:
            num_valid = round(valid_seconds * sample_rate)
            end = start + valid_seconds
            if num_valid < length:
                waveform = waveform[:num_valid]
                if previous is not None:
                    num_earlier = (length - num_valid) // step * step
                    waveform = np.concatenate([previous[hop - num_earlier : hop], waveform])
                    start -= num_earlier / sample_rate
                waveform = np.pad(waveform, (0, max(0, self._min_samples - len(waveform))))
            yield Window(start, end, end - previous_end, waveform)
            previous, previous_end = waveform, end

    def _run(self, waveforms: np.ndarray) -> Mapping[str, np.ndarray]:
        if self._runtime.length is not None:
            num_missing = round(self._window_seconds * self._card.sample_rate) - waveforms.shape[1]
            if num_missing:
                waveforms = np.pad(waveforms, [(0, 0), (0, num_missing)])
        if self._front_end is None or self._runtime.input == "waveform":
            return self._runtime(waveforms)
        return self._runtime(self._front_end.compute_log_mel(waveforms))

    @property
    def _min_samples(self) -> int:
        """Number of samples that fill one output frame; networks have no output for fewer."""
        if self._front_end is None:
            return 1
        frames_per_output = (self._card.seconds_per_frame or 0) * self._front_end.frames_per_second
        frames = max(1, math.ceil(frames_per_output - 1e-6))
        return self._front_end.min_samples + (frames - 1) * self._front_end.hop_length

    def _check_segment(self, seconds: float) -> None:
        sample_rate = self._card.sample_rate
        max_seconds = math.inf if self._runtime.length is None else self._window_seconds
        if not self._min_samples <= seconds * sample_rate + 1e-6 or not seconds <= max_seconds or seconds == math.inf:
            allowed = f"at least {self._min_samples / sample_rate:g}"
            allowed += "" if max_seconds == math.inf else f" and at most {max_seconds:g}"
            raise ValueError(f"`segment_seconds` must be {allowed}; received: {seconds!r}")


def _make_batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Yield lists of at most `size` windows of equal length, in order."""
    for _, equally_long in itertools.groupby(windows, key=lambda window: len(window.waveform)):
        while batch := list(itertools.islice(equally_long, size)):
            yield batch
