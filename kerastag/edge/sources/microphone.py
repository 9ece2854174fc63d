"""A microphone -> blocks, through PortAudio; opened again when it was unplugged."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kerastag.edge.blocks import Block, now
from kerastag.edge.sources.pcm import BLOCK_SECONDS
from kerastag.edge.sources.reopening import Lost

__all__ = ["MicrophoneSession"]

STALL_SECONDS = 5.0
_WAITING_BLOCKS = 100  # ten seconds: who reads is a thread that only hands on
_REFUSALS = {-9997: "rate", -9998: "channels"}  # PortAudio's paInvalidSampleRate, paInvalidChannelCount


class MicrophoneSession:
    """An input device -> blocks of float32 samples (samples, channels), for as long as it is plugged in.

    A rate or a number of channels that the device refuses is replaced by its own; the stream resamples and mixes.

    Args:
        device: Name, part of a name, or number of a PortAudio device; None is the default one.
        sample_rate: Hz; what the device is asked for first.
        channels: What the device is asked for first, at least 1.
        report: Takes one line for people.
        stall_seconds: After how long without a block the device counts as lost, above 0.

    Raises:
        ImportError: sounddevice or PortAudio is not installed.
        ValueError: There is no such device, or it takes neither these settings nor its own. While iterating, `Lost`:
            it was unplugged or gives nothing.
    """

    def __init__(
        self,
        device: str | int | None,
        sample_rate: int,
        channels: int,
        report: Callable[[str], None],
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.name = "microphone" if device is None else f"microphone {device}"
        self._portaudio = _sounddevice()
        self._report = report
        self._stall_seconds = stall_seconds
        self._blocks: queue.Queue[Block | None] = queue.Queue(_WAITING_BLOCKS)
        self._stopped = self._unplugged = False
        self._overrun = 0
        self._end_at: float | None = None
        try:
            self._stream = self._started(device, sample_rate, channels)
        except BaseException:
            self._forget_devices()
            raise

    def __iter__(self) -> Iterator[Block]:
        while not self._stopped:
            try:
                block = self._blocks.get(timeout=self._stall_seconds)
            except queue.Empty:
                raise Lost(f"{self.name}: gives nothing for {self._stall_seconds:g} s") from None
            if block is not None:
                yield block
            elif self._unplugged and not self._stopped:
                raise Lost(f"{self.name}: stopped, as when it is unplugged")

    def stop(self) -> None:
        """End the blocks soon, from a signal handler or another thread."""
        self._stopped = True
        self._nudge()

    def close(self) -> None:
        """Give the device back."""
        self._stopped = True
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)
        self._forget_devices()

    def _forget_devices(self) -> None:
        """PortAudio lists the devices once, when it starts: what is plugged in later is found after a new start."""
        self._portaudio._terminate()
        self._portaudio._initialize()

    def _started(self, device: str | int | None, sample_rate: int, channels: int) -> Any:
        try:
            found = self._portaudio.query_devices(device, "input")
        except (ValueError, self._portaudio.PortAudioError):
            inputs = [each["name"] for each in self._portaudio.query_devices() if each["max_input_channels"]]
            there = f"PortAudio's inputs are: {'; '.join(inputs)}" if inputs else "PortAudio finds no input at all"
            raise ValueError(f"{self.name}: there is no such input ({there})") from None
        asked = {"rate": sample_rate, "channels": channels}
        own = {"rate": round(found["default_samplerate"]), "channels": found["max_input_channels"]}
        while True:
            try:
                return self._opened(device, asked["rate"], asked["channels"])
            except self._portaudio.PortAudioError as error:
                text, code = error.args[0], error.args[1] if len(error.args) > 1 else 0
                refused = _REFUSALS.get(code, "")
                if not refused or asked[refused] == own[refused]:
                    wanted = f"{asked['rate']} Hz and {asked['channels']} channels"
                    raise ValueError(f"{self.name}: cannot be opened with {wanted} ({text})") from None
                self._report(f"{self.name}: refuses {refused} {asked[refused]}, its own {own[refused]} is used")
                asked[refused] = own[refused]

    def _opened(self, device: str | int | None, sample_rate: int, channels: int) -> Any:
        self._rate = sample_rate
        stream = self._portaudio.InputStream(
            device=device,
            samplerate=sample_rate,
            channels=channels,
            dtype="float32",
            blocksize=round(BLOCK_SECONDS * sample_rate),
            callback=self._heard,
            finished_callback=self._finished,
        )
        try:
            stream.start()
        except BaseException:
            stream.close(ignore_errors=True)
            raise
        return stream

    def _heard(self, samples: np.ndarray, frames: int, _: Any, status: Any) -> None:
        """PortAudio's callback, in its own thread: never waits."""
        captured_at = now() - frames / self._rate
        lost, self._overrun = self._overrun, 0
        if status.input_overflow and self._end_at is not None:
            lost += max(1, round((captured_at - self._end_at) * self._rate))  # how much is not said: by the clock
        self._end_at = captured_at + frames / self._rate
        try:
            self._blocks.put_nowait(Block(samples.copy(), self._rate, captured_at, lost))
        except queue.Full:
            self._overrun = lost + frames

    def _finished(self) -> None:
        self._unplugged = True
        self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(queue.Full):  # whoever reads has enough to wake up for
            self._blocks.put_nowait(None)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise ImportError("the microphone needs the package sounddevice: pip install 'kerastag[mic]'") from error
    except OSError as error:
        raise ImportError(f"the microphone needs PortAudio: apt install libportaudio2 ({error})") from error
    return sounddevice
