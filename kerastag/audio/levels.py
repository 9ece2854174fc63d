"""Is an array a waveform, and how loud, clipped and offset is it?"""

import dataclasses
import math

import numpy as np

MAX_PEAK = 32.0  # 30 dB above full scale: no recording is that loud, 16-bit data read as float nearly always is


@dataclasses.dataclass(frozen=True)
class Levels:
    """What `check` measures of a waveform: peak, root mean square, mean (DC), and the clipped share of its samples."""

    peak: float
    rms: float
    mean: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Whether nothing but a constant is there (below -100 dB of full scale)."""
        return self.rms**2 - self.mean**2 < 1e-10

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each thing that a listener would want to know."""
        found = (
            (self.silent, "silent"),
            (abs(self.mean) > 0.05, f"DC offset of {self.mean:.3f}"),
            (self.clipped > 0.001, f"{100 * self.clipped:.1f} % of the samples are clipped"),
            (self.peak > 1, f"peak {self.peak:.2f} is beyond full scale"),
        )
        return tuple(line for holds, line in found if holds)


def check(waveform: np.ndarray) -> Levels:
    """Waveform (samples,) -> its levels, or an error where it is none.

    Silence, clipping and DC are no errors: `Levels.remarks` names them.

    Args:
        waveform: float samples, nominally in [-1, 1].

    Raises:
        ValueError: the array is not float, has other than one axis or no samples; or samples are NaN or infinite, or
            integers or so large that 16-bit data was read as float.

    >>> check(np.full(16_000, 0.25, np.float32)).remarks
    ('silent', 'DC offset of 0.250')
    """
    if not isinstance(waveform, np.ndarray) or waveform.dtype.kind != "f":
        kind = waveform.dtype if isinstance(waveform, np.ndarray) else type(waveform).__name__
        hint = "; divide 16-bit samples by 32768" if "int" in str(kind) else ""
        raise ValueError(f"`waveform` must be an array of float samples in [-1, 1]{hint}. Received: {kind}")
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"`waveform` must have shape (samples,), at least one. Received: {waveform.shape}")
    check_samples(waveform[:, None], "`waveform`")
    wide = waveform.astype(np.float64)
    return Levels(
        peak=float(np.abs(wide).max()),
        rms=math.sqrt(np.mean(wide**2)),
        mean=float(wide.mean()),
        clipped=float(np.mean(np.abs(wide) >= 1 - 2**-14)),
    )


def check_samples(block: np.ndarray, name: str, first: int = 0, rate: int | None = None) -> None:
    """Refuse (frames, channels) samples that are no waveform, with the place of the first of them."""
    peaks = np.abs(block).max(axis=1)
    peak = float(peaks.max())
    if not math.isfinite(peak):
        fault, received = "finite", "NaN or infinity"
        index = int(np.flatnonzero(~np.isfinite(peaks))[0])
    elif peak > MAX_PEAK or (peak >= 2 and np.array_equal(block, np.rint(block))):
        fault, received = "in [-1, 1] (divide 16-bit integers by 32768)", f"{peak:g}"
        index = int(peaks.argmax())
    else:
        return
    place = f"sample {index}" if rate is None else f"{(first + index) / rate:.4f} s"
    raise ValueError(f"{name}: samples must be {fault}. Received: {received} at {place}")
