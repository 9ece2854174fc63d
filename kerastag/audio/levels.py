"""Checks whether an array is a waveform, and measures of its level."""

import dataclasses
import math

import numpy as np

MAX_PEAK = 32.0
"""Largest allowed magnitude of a sample, 30 dB above full scale.

No recording is that loud, and 16-bit integers that were read as floats nearly always are.
"""


@dataclasses.dataclass(frozen=True)
class Levels:
    """Levels of a waveform, where full scale is 1.

    Attributes:
        peak: Largest magnitude of a sample.
        rms: Root mean square of the samples.
        mean: Mean of the samples (DC offset).
        clipped: Share of the samples at or beyond full scale, in [0, 1].
    """

    peak: float
    rms: float
    mean: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Whether the waveform is constant, within -100 dB of full scale."""
        return self.rms**2 - self.mean**2 < 1e-10

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about the waveform, one line each; empty where nothing is unusual."""
        remarks = (
            (self.silent, "silent"),
            (abs(self.mean) > 0.05, f"DC offset of {self.mean:.3f}"),
            (self.clipped > 0.001, f"{100 * self.clipped:.1f} % of the samples are clipped"),
            (self.peak > 1, f"peak {self.peak:.2f} is beyond full scale"),
        )
        return tuple(remark for applies, remark in remarks if applies)


def measure_levels(waveform: np.ndarray) -> Levels:
    """Measure the levels of a waveform, and check that it is one.

    Silence, clipping and a DC offset are not errors; they appear in `Levels.remarks`.

    Args:
        waveform: Float samples, nominally in [-1, 1], `(samples,)`, at least one.

    Raises:
        ValueError: The array is not float of shape `(samples,)`, or samples are NaN, infinite or integer samples.

    >>> from kerastag import audio
    >>> audio.measure_levels(np.full(16_000, 0.25, np.float32)).remarks
    ('silent', 'DC offset of 0.250')
    """
    if not isinstance(waveform, np.ndarray) or waveform.dtype.kind != "f":
        kind = waveform.dtype if isinstance(waveform, np.ndarray) else type(waveform).__name__
        hint = "; divide 16-bit samples by 32768" if "int" in str(kind) else ""
        raise ValueError(f"`waveform` must be an array of float samples in [-1, 1]{hint}; received: {kind}")
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"`waveform` must have shape (samples,), at least one; received: {waveform.shape}")
    check_samples(waveform[:, None], "`waveform` samples")
    samples = waveform.astype(np.float64)
    return Levels(
        peak=float(np.abs(samples).max()),
        rms=math.sqrt(np.mean(samples**2)),
        mean=float(samples.mean()),
        clipped=float(np.mean(np.abs(samples) >= 1 - 2**-14)),
    )


def check_samples(block: np.ndarray, name: str, first: int = 0, sample_rate: int | None = None) -> None:
    """Raise an error where samples `(frames, channels)` are NaN, infinite or integer samples stored as float.

    `name` begins the message. With a sample rate in Hz, the message has the position in seconds in a recording of which
    `first` is the first frame of the block.
    """
    if max(block.max(), -block.min()) < 2:  # False for NaN
        return
    peaks = np.abs(block).max(axis=1)
    peak = float(peaks.max())
    if not math.isfinite(peak):
        expected, received = "finite", "NaN or infinity"
        index = int(np.flatnonzero(~np.isfinite(peaks))[0])
    elif peak > MAX_PEAK or (peak >= 2 and np.array_equal(block, np.rint(block))):
        expected, received = "in [-1, 1] (divide 16-bit integers by 32768)", f"{peak:g}"
        index = int(peaks.argmax())
    else:
        return
    position = f"sample {index}" if sample_rate is None else f"{(first + index) / sample_rate:.4f} s"
    raise ValueError(f"{name} must be {expected}; received: {received} at {position}")
