"""Log-mel frames of a stream, as soon as they are complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kerastag.dsp.spectrogram import emphasize, frames_to_log_mel, lengthen

if TYPE_CHECKING:
    from kerastag.dsp.front_end import FrontEnd

__all__ = ["StreamingLogMel"]


class StreamingLogMel:
    """Blocks of a waveform -> log-mel frames as soon as they are complete; memory does not grow with the stream.

    The frames of all blocks and of `flush`, one after the other, are bit for bit those of
    `front_end.log_mel(whole waveform)`, however the stream is cut. The first frame waits for the samples that its
    reflection needs, the last ones for `flush`.

    Args:
        front_end: the front end.

    >>> from kerastag.dsp import FRONT_ENDS
    >>> stream = StreamingLogMel(FRONT_ENDS["vggish"])
    >>> [len(stream.feed(np.zeros(size, np.float32))) for size in (300, 100, 320)]
    [0, 1, 2]
    >>> len(stream.flush())
    0
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self._reset()

    def _reset(self) -> None:
        self._raw = np.zeros(0, np.float32)  # what the pre-emphasis or the first reflection still waits for
        self._samples = np.zeros(0, np.float32)  # emphasized and, at the start, reflected
        self._position = 0  # of the next frame in _samples
        self._started = False

    def feed(self, block: np.ndarray) -> np.ndarray:
        """Next samples (samples,), any number -> the frames that they complete, (frames, mel_bins) float32.

        Raises:
            ValueError: `block` is not a float array with one axis.
        """
        block = np.asarray(block)
        if block.dtype.kind != "f" or block.ndim != 1:
            raise ValueError(
                f"`block` must be float samples of shape (samples,). Received: {block.dtype} of shape {block.shape}"
            )
        self._raw = np.concatenate([self._raw, block.astype(np.float32, copy=False)])
        if not self._started and len(self._raw) < self.front_end.min_samples:
            return np.zeros((0, self.front_end.num_mel_bins), np.float32)
        return self._advance(self._take())

    def flush(self) -> np.ndarray:
        """End of the stream -> its last frames, (frames, mel_bins) float32; the next block begins a new stream."""
        frames = []
        if not self._started and len(self._raw):
            self._raw = lengthen(self.front_end, self._raw)
            frames.append(self._advance(self._take()))
        if self._started and self.front_end.padding:
            tail = self._samples[-1 - self.front_end.padding : -1][::-1]
            frames.append(self._advance(tail))
        self._reset()
        return np.concatenate(frames) if frames else np.zeros((0, self.front_end.num_mel_bins), np.float32)

    def _take(self) -> np.ndarray:
        """The waiting raw samples -> emphasized samples, the reflection before the first of them included."""
        samples = emphasize(self.front_end, self._raw)
        self._raw = self._raw[-1:] if self.front_end.preemphasis else self._raw[:0]
        if self._started:
            return samples
        self._started = True
        return np.pad(samples, (self.front_end.padding, 0), mode="reflect")

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples])
        log_mel = frames_to_log_mel(self.front_end, self._samples[self._position :])
        self._position += len(log_mel) * self.front_end.hop_length
        # The end of the stream is reflected too: keep that many samples although no later frame begins there.
        done = max(0, min(self._position, len(self._samples) - self.front_end.padding - 1))
        self._samples, self._position = self._samples[done:].copy(), self._position - done
        return log_mel
