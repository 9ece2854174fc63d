"""A recording of any length -> its windows, with what a model's outputs say of each."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import soxr

from kerastag import audio
from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.edge.runtime import Runtime

__all__ = ["Listener", "Window"]

_SECONDS_AT_ONCE = 40  # of audio in one batch: what a wide CNN makes of it still fits a small machine


class Window(NamedTuple):
    """One window: where it begins and ends in the recording, the seconds that no window before it has, its samples."""

    start_seconds: float
    end_seconds: float
    new_seconds: float
    waveform: np.ndarray


class Listener:
    """A model with its card -> what it says of every window of a recording.

    Windows follow each other by as many whole output frames as fit into one; the last one begins earlier, so that it
    is not short.
    """

    def __init__(self, runtime: Runtime, card: Card, name: str) -> None:
        self._runtime = runtime
        self._card = card
        self._name = name
        self._front_end = FrontEnd.from_dict(dict(card.front_end)) if card.front_end else None
        self._window_seconds = card.window_seconds
        self._fit_to_input()

    def windows(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None,
        *names: str,
        segment_seconds: float | None = None,
    ) -> Iterator[tuple[Window, Mapping[str, np.ndarray]]]:
        """Each window of a recording with what the model's outputs of these names say of it."""
        if missing := [name for name in names if name not in self._runtime.outputs]:
            raise ValueError(f"{self._name}: this model has no output `{missing[0]}`")
        seconds = segment_seconds or self._window_seconds
        grid = 0.0 if segment_seconds else self._card.seconds_per_frame or 0.0
        windows = self._cut(self._at_rate(source, sample_rate), seconds, grid)
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
        if sample_rate == self._card.sample_rate:
            return source
        return soxr.resample(source.astype(np.float32), sample_rate, self._card.sample_rate, quality="HQ")

    def _cut(
        self, source: str | os.PathLike[str] | np.ndarray, seconds: float, grid_seconds: float
    ) -> Iterator[Window]:
        """Windows that begin on a grid; the last one begins as much earlier as the grid allows."""
        rate, before, before_end = self._card.sample_rate, None, 0.0
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
            yield Window(start, end, end - before_end, waveform)
            before, before_end = waveform, end

    def _run(self, waveforms: np.ndarray) -> Mapping[str, np.ndarray]:
        """(batch, samples) -> outputs by name."""
        if self._runtime.length is not None:
            missing = round(self._window_seconds * self._card.sample_rate) - waveforms.shape[1]
            waveforms = np.pad(waveforms, [(0, 0), (0, missing)])
        if self._runtime.input == "waveform":
            return self._runtime(waveforms)
        return self._runtime(self._required_front_end().log_mel(waveforms))

    def _fit_to_input(self) -> None:
        """A fixed input length is the window's; log-mel needs the front end that the card has."""
        length = self._runtime.length
        if self._runtime.input == "waveform":
            if length is not None:
                self._window_seconds = length / self._card.sample_rate
            return
        frames = self._required_front_end().num_frames(round(self._window_seconds * self._card.sample_rate))
        if length not in (None, frames):
            raise ValueError(
                f"{self._name}: its input has {length} log-mel frames, its card's window of {self._window_seconds:g} s "
                f"gives {frames}"
            )

    def _required_front_end(self) -> FrontEnd:
        if self._front_end is None:
            raise ValueError(f"{self._name}: it hears log-mel, but its card has no `front_end`")
        return self._front_end

    def _shortest(self) -> int:
        """Samples that fill one output frame: the networks give nothing for less."""
        if self._front_end is None:
            return 1
        per_second = self._front_end.frames_per_second
        frames = max(1, math.ceil((self._card.seconds_per_frame or 0) * per_second - 1e-6))
        return self._front_end.min_samples + (frames - 1) * self._front_end.hop_length

    def check_segment(self, seconds: float) -> None:
        rate = self._card.sample_rate
        longest = math.inf if self._runtime.length is None else self._window_seconds
        if not self._shortest() <= seconds * rate + 1e-6 or not seconds <= longest or seconds == math.inf:
            allowed = f"at least {self._shortest() / rate:g}" + (f" and at most {longest:g}" if longest < 1e9 else "")
            raise ValueError(f"`segment_seconds` must be {allowed}, received {seconds!r}")

    def frame_seconds(self) -> float:
        if self._card.seconds_per_frame is None or "framewise" not in self._runtime.outputs:
            raise ValueError(f"{self._name}: this model has no probabilities over time")
        return self._card.seconds_per_frame


def _batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Windows in order -> lists of at most `size` of one length."""
    for _, equal in itertools.groupby(windows, key=lambda window: len(window.waveform)):
        while batch := list(itertools.islice(equal, size)):
            yield batch
