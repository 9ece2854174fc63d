"""Log-mel spectrograms of streams."""

from __future__ import annotations

import numpy as np

from kerastag.dsp.front_end import FrontEnd, compute_frames, emphasize, pad_to_one_frame

__all__ = ["StreamingLogMel"]


class StreamingLogMel:
    """Log-mel spectrogram of a stream, block by block, in constant memory.

    The frames of all blocks and of `flush`, concatenated, are bit for bit those of `front_end.compute_log_mel` for the
    whole waveform, for any sizes of blocks. The first frame waits for the samples that its reflection needs, the last
    ones wait for `flush`.

    Args:
        front_end: Front end of the spectrogram.

    >>> from kerastag.dsp import FRONT_ENDS, StreamingLogMel
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
        self._raw = np.zeros(0, np.float32)  # samples that the pre-emphasis or the first reflection still needs
        self._samples = np.zeros(0, np.float32)  # emphasized and, at the start, reflected
        self._position = 0  # of the next frame in _samples
        self._started = False

    def feed(self, block: np.ndarray) -> np.ndarray:
        """Process the next float samples, `(samples,)`, and return the frames that they complete, `(frames, mel_bins)`.

        Raises:
            ValueError: The block is not a float array with one axis.
        """
        block = np.asarray(block)
        if block.dtype.kind != "f" or block.ndim != 1:
            raise ValueError(
                f"`block` must be float samples of shape (samples,); received: {block.dtype} of shape {block.shape}"
            )
        self._raw = np.concatenate([self._raw, block.astype(np.float32, copy=False)])
        if not self._started and len(self._raw) < self.front_end.min_samples:
            return np.zeros((0, self.front_end.num_mel_bins), np.float32)
        return self._advance(self._emphasize())

    def flush(self) -> np.ndarray:
        """End the stream and return its last frames, `(frames, mel_bins)`; the next block begins another stream."""
        frames = []
        if not self._started and len(self._raw):
            self._raw = pad_to_one_frame(self.front_end, self._raw)
            frames.append(self._advance(self._emphasize()))
        if self._started and self.front_end.padding:
            tail = self._samples[-1 - self.front_end.padding : -1][::-1]
            frames.append(self._advance(tail))
        self._reset()
        return np.concatenate(frames) if frames else np.zeros((0, self.front_end.num_mel_bins), np.float32)

    def _emphasize(self) -> np.ndarray:
        """Return the pending samples after pre-emphasis, with the reflection before the first of them."""
        samples = emphasize(self.front_end, self._raw)
        self._raw = self._raw[-1:] if self.front_end.preemphasis else self._raw[:0]
        if self._started:
            return samples
        self._started = True
        return np.pad(samples, (self.front_end.padding, 0), mode="reflect")

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples])
        log_mel = compute_frames(self.front_end, self._samples[self._position :])
        self._position += len(log_mel) * self.front_end.hop_length
        # Keep the samples that are reflected at the end of the stream, although no later frame begins there.
        end = max(0, min(self._position, len(self._samples) - self.front_end.padding - 1))
        self._samples, self._position = self._samples[end:].copy(), self._position - end
        return log_mel
