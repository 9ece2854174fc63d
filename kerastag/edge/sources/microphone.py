"""A microphone, read through PortAudio."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock
from kerastag.edge.sources.pcm import BLOCK_SECONDS, SourceLostError

__all__ = ["MicrophoneSession"]

_TIMEOUT_SECONDS = 5.0
_MAX_QUEUED_BLOCKS = 100  # Ten seconds; the reading thread only passes them on.
_REFUSED_SETTINGS = {-9997: "rate", -9998: "channels"}  # PortAudio's paInvalidSampleRate, paInvalidChannelCount.


class MicrophoneSession:
    """An open input device that yields float32 blocks of shape (samples, channels) until it is unplugged.

    The device is a PortAudio device by its name, a part of the name, or its number; None is the default device. A
    sample rate or a number of channels that it refuses is replaced by its default; the stream resamples and averages.

    Raises:
        ImportError: sounddevice or PortAudio is not installed.
        ValueError: The device does not exist, or accepts neither these settings nor its own. While iterating,
            `SourceLostError`: it was unplugged, or nothing came from it for `timeout_seconds`.
    """

    live = True

    def __init__(
        self,
        device: str | int | None,
        sample_rate: int,
        channels: int,
        log: Callable[[str], None],
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.name = "microphone" if device is None else f"microphone {device}"
        try:
            import sounddevice
        except ImportError as error:
            raise ImportError("the microphone needs the package sounddevice: pip install 'kerastag[mic]'") from error
        except OSError as error:
            raise ImportError(f"the microphone needs PortAudio: apt install libportaudio2 ({error})") from error
        self._portaudio: Any = sounddevice
        self._log = log
        self._timeout_seconds = timeout_seconds
        self._blocks: queue.Queue[Block | None] = queue.Queue(_MAX_QUEUED_BLOCKS)
        self._stopped = self._finished = False
        self._overrun = 0
        self._end_time: float | None = None
        try:
            self._stream = self._open_stream(device, sample_rate, channels)
        except BaseException:
            self._reset_portaudio()
            raise

    def __iter__(self) -> Iterator[Block]:
        while not self._stopped:
            try:
                block = self._blocks.get(timeout=self._timeout_seconds)
            except queue.Empty:
                raise SourceLostError(f"{self.name}: nothing came for {self._timeout_seconds:g} s") from None
            if block is not None:
                yield block
            elif self._finished and not self._stopped:
                raise SourceLostError(f"{self.name}: stopped, probably unplugged")

    def stop(self) -> None:
        self._stopped = True
        self._wake_reader()

    def close(self) -> None:
        self._stopped = True
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)
        self._reset_portaudio()

    def _reset_portaudio(self) -> None:
        """Restart PortAudio, which lists the devices only when it starts."""
        self._portaudio._terminate()
        self._portaudio._initialize()

    def _open_stream(self, device: str | int | None, sample_rate: int, channels: int) -> Any:
        try:
            info = self._portaudio.query_devices(device, "input")
        except (ValueError, self._portaudio.PortAudioError):
            inputs = [entry["name"] for entry in self._portaudio.query_devices() if entry["max_input_channels"]]
            hint = f"the inputs of PortAudio are: {'; '.join(inputs)}" if inputs else "PortAudio has no inputs"
            raise ValueError(f"{self.name}: no such input ({hint})") from None
        requested = {"rate": sample_rate, "channels": channels}
        defaults = {"rate": round(info["default_samplerate"]), "channels": info["max_input_channels"]}
        while True:
            try:
                return self._start_stream(device, requested["rate"], requested["channels"])
            except self._portaudio.PortAudioError as error:
                text, code = error.args[0], error.args[1] if len(error.args) > 1 else 0
                refused = _REFUSED_SETTINGS.get(code, "")
                if not refused or requested[refused] == defaults[refused]:
                    settings = f"{requested['rate']} Hz and {requested['channels']} channels"
                    raise ValueError(f"{self.name}: cannot be opened with {settings} ({text})") from None
                self._log(f"{self.name}: refuses {refused} {requested[refused]}; using {defaults[refused]} instead")
                requested[refused] = defaults[refused]

    def _start_stream(self, device: str | int | None, sample_rate: int, channels: int) -> Any:
        self._rate = sample_rate
        stream = self._portaudio.InputStream(
            device=device,
            samplerate=sample_rate,
            channels=channels,
            dtype="float32",
            blocksize=round(BLOCK_SECONDS * sample_rate),
            callback=self._on_block,
            finished_callback=self._on_finished,
        )
        try:
            stream.start()
        except BaseException:
            stream.close(ignore_errors=True)
            raise
        return stream

    def _on_block(self, samples: np.ndarray, frames: int, _: Any, status: Any) -> None:
        """Queue a block without ever waiting; PortAudio's thread calls this."""
        captured_at = read_clock() - frames / self._rate
        lost, self._overrun = self._overrun, 0
        if status.input_overflow and self._end_time is not None:
            # PortAudio does not say how much was lost; the clock does.
            lost += max(1, round((captured_at - self._end_time) * self._rate))
        self._end_time = captured_at + frames / self._rate
        try:
            self._blocks.put_nowait(Block(samples.copy(), self._rate, captured_at, lost))
        except queue.Full:
            self._overrun = lost + frames

    def _on_finished(self) -> None:
        self._finished = True
        self._wake_reader()

    def _wake_reader(self) -> None:
        with contextlib.suppress(queue.Full):  # With a full queue the reader does not wait.
            self._blocks.put_nowait(None)
