"""Mixing the channels of a recording or a stream to one."""

import numpy as np

__all__ = ["CANCELLATION", "ChannelMixer", "parse_channel"]

CANCELLATION = "its channels cancel each other, and their mean is silent or weak; choose a `channel`, such as left"
"""Warning about a recording or a stream whose channels cancel each other."""

_NUMBERS = {"left": 1, "right": 2}
_MIN_VARIANCE = 1e-8  # -80 dB of full scale; the channels of a quiet room may well cancel each other
_MIN_RATIO = 0.01  # -20 dB
_MIN_SHARE = 0.1
_DECAY_PER_BLOCK = 0.99


def parse_channel(channel: str | int) -> str | int:
    """Return `"mean"`, `"loudest"` or the number of a channel, from 1.

    >>> parse_channel("right"), parse_channel("3"), parse_channel("mean")
    (2, 3, 'mean')
    """
    if channel in ("mean", "loudest"):
        return channel
    number = _NUMBERS.get(str(channel)) or (int(channel) if str(channel).isdecimal() else 0)
    if number < 1:
        raise ValueError(
            f"`channel` must be mean, left, right, loudest or a number of a channel from 1; received: {channel!r}"
        )
    return number


class ChannelMixer:
    """A mixer of blocks of channels to mono, which detects channels that cancel each other.

    A recording of one channel has only this one to choose. The loudest channel is that of the recent blocks.

    Args:
        channel: `"mean"`, `"left"`, `"right"`, `"loudest"` or the number of a channel, from 1.

    Attributes:
        num_frames: Number of frames so far.
        num_cancelled: Number of frames in blocks whose mean is at least 20 dB weaker than their loudest channel.

    >>> mixer = ChannelMixer()
    >>> sine = np.sin(np.arange(8_000))
    >>> float(np.abs(mixer.mix(np.stack([sine, -sine], axis=1))).max()), mixer.has_cancelled
    (0.0, True)
    """

    def __init__(self, channel: str | int = "mean") -> None:
        self._channel = parse_channel(channel)
        self._energies = np.zeros(1)
        self.num_frames = self.num_cancelled = 0

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Mix samples `(frames, channels)` to `(frames,)`, float32."""
        num_channels = block.shape[1]
        if num_channels == 1:
            return block[:, 0]
        if isinstance(self._channel, int):
            if self._channel > num_channels:
                expected = f"must be at most the number of channels, {num_channels}"
                raise ValueError(f"`channel` {expected}; received: {self._channel}")
            return np.ascontiguousarray(block[:, self._channel - 1])
        if self._channel == "loudest":
            energies = compute_energies(block)
            same = len(energies) == len(self._energies)
            self._energies = energies + (_DECAY_PER_BLOCK * self._energies if same else 0)
            return np.ascontiguousarray(block[:, self._energies.argmax()])
        # Adding two columns takes a tenth of the time of a mean over such short rows, and gives the same bits.
        is_stereo = num_channels == 2 and block.dtype == np.float32
        mono = (block[:, 0] + block[:, 1]) / 2 if is_stereo else block.mean(axis=1, dtype=np.float32)
        if len(block):
            self.num_cancelled += len(block) if _cancel(block, mono) else 0
            self.num_frames += len(block)
        return mono

    @property
    def has_cancelled(self) -> bool:
        """Whether the channels cancel each other in a tenth of the frames or more."""
        return self.num_cancelled > 0 and self.num_cancelled >= _MIN_SHARE * self.num_frames


def _cancel(block: np.ndarray, mono: np.ndarray) -> bool:
    """Return whether the mean of the channels is much weaker than the loudest one."""
    samples, length = np.ravel(block), len(block)
    with np.errstate(invalid="ignore", over="ignore"):
        variance = float(mono @ mono) / length - float(mono.mean()) ** 2
        # All channels together are at least as loud as the loudest one. This product takes far less time.
        limit = max(float(samples @ samples) / length, _MIN_VARIANCE)
    if not variance < _MIN_RATIO * limit:
        return False
    loudest = float(compute_energies(block).max()) / length
    return loudest > _MIN_VARIANCE and variance < _MIN_RATIO * loudest


def compute_energies(block: np.ndarray) -> np.ndarray:
    """Compute the sum of the squares of every channel without its mean, `(channels,)`."""
    with np.errstate(invalid="ignore", over="ignore"):  # Blocks of a live source may have NaN.
        return len(block) * block.var(axis=0, dtype=np.float64)
