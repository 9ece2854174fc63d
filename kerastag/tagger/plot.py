"""A recording and what was heard in it -> a picture: log-mel, and the classes over time under it."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.dsp import FrontEnd, StreamingLogMel

if TYPE_CHECKING:
    from kerastag.tagger import Timeline

__all__ = ["check_picture", "log_mel_picture", "plot_timeline"]

_COLUMNS = 3000  # a picture shows no more
_TICKS_HZ = (250, 500, 1_000, 2_000, 4_000, 8_000, 14_000)
_LONGEST_NAME = 36
_SUFFIXES = (".png", ".pdf", ".svg")


def log_mel_picture(blocks: Iterable[np.ndarray], front_end: FrontEnd, duration_seconds: float) -> np.ndarray:
    """Blocks of a waveform -> its log-mel (columns, mel_bins), a column the mean of so many frames that 3,000 suffice.

    Memory does not grow with the recording.

    Args:
        blocks: Waveforms (samples,) at the front end's rate, one after the other.
        front_end: What makes log-mel of them.
        duration_seconds: Of all blocks together, above zero.

    >>> from kerastag.dsp import FRONT_ENDS
    >>> minute = (np.zeros(160_000, np.float32) for _ in range(6))
    >>> log_mel_picture(minute, FRONT_ENDS["vggish"], 60.0).shape
    (2999, 64)
    """
    frames_a_column = max(1, math.ceil(duration_seconds * front_end.frames_per_second / _COLUMNS))
    stream = StreamingLogMel(front_end)
    waiting, columns = np.zeros((0, front_end.num_mel_bins), np.float32), []
    for frames in itertools.chain(map(stream.feed, blocks), (stream.flush() for _ in range(1))):
        waiting = np.concatenate([waiting, frames])
        whole = len(waiting) - len(waiting) % frames_a_column
        grouped = waiting[:whole].reshape(-1, frames_a_column, waiting.shape[1])  # (columns, frames, mel_bins)
        columns.append(grouped.mean(axis=1))
        waiting = waiting[whole:]
    if len(waiting):
        columns.append(waiting.mean(axis=0, keepdims=True))
    return np.concatenate(columns)


def plot_timeline(
    timeline: Timeline,
    classes: Sequence[int],
    log_mel: np.ndarray,
    front_end: FrontEnd,
    output: str | os.PathLike[str],
    title: str = "",
) -> Path:
    """What was heard in a recording -> a picture: log-mel above, the classes over time below, one axis of time.

    Args:
        timeline: From `Tagger.timeline`.
        classes: Indices of the classes to show, the first one on top, at least one.
        log_mel: `(columns, mel_bins)` of the whole recording, from `log_mel_picture`.
        front_end: What made the log-mel.
        output: Path that ends in .png, .pdf or .svg.
        title: Stands above.

    Returns:
        `output`, written beside and renamed.

    Raises:
        ValueError: There is no class to show, or the file's ending is unknown.
        FileNotFoundError: The output's folder is not there.
        ImportError: Matplotlib is not installed.
    """
    output = check_picture(output)
    if not len(classes):
        raise ValueError("`classes` must hold at least one class, received none")
    figure = _figure(timeline, list(classes), log_mel, front_end, title)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".kerastag-") as folder:
        beside = Path(folder) / output.name
        figure.savefig(beside, dpi=150)
        beside.replace(output)
    return output


def check_picture(output: str | os.PathLike[str]) -> Path:
    """Raise, as `plot_timeline` does, unless a picture can be written there."""
    output = Path(output)
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"`output` must end in {', '.join(_SUFFIXES)}, received {output}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"`output`: no such folder: {output.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("pictures need matplotlib: pip install 'kerastag[train]'")
    return output


def _figure(timeline: Timeline, classes: list[int], log_mel: np.ndarray, front_end: FrontEnd, title: str) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows_height = 0.5 + 0.34 * len(classes)
    figure = Figure(figsize=(10, 3.4 + rows_height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, rows_height))
    _draw_log_mel(figure, above, log_mel, front_end, timeline.duration_seconds)
    _draw_classes(figure, below, timeline, classes)
    above.set_title(title)
    below.set_xlim(0, timeline.duration_seconds)
    below.xaxis.set_major_locator(MaxNLocator(10, steps=(1, 2, 3, 5, 6, 10)))
    below.xaxis.set_major_formatter(FuncFormatter(_clock if timeline.duration_seconds > 120 else lambda x, _: f"{x:g}"))
    below.set_xlabel("minutes" if timeline.duration_seconds > 120 else "seconds")
    return figure


def _draw_log_mel(figure: Any, axes: Any, log_mel: np.ndarray, front_end: FrontEnd, seconds: float) -> None:
    low, high = np.percentile(log_mel, (2, 99.8))
    image = axes.imshow(
        log_mel.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, seconds, -0.5, log_mel.shape[1] - 0.5),
        vmin=low,
        vmax=max(high, low + 1e-3),
    )
    weights = front_end.mel_matrix  # (bins, mel_bins); a low band may lie between two bins and have none
    heard = np.flatnonzero(weights.sum(axis=0) > 0)
    hz = np.arange(len(weights)) * front_end.sample_rate / front_end.fft_length
    centers = hz @ weights[:, heard] / weights[:, heard].sum(axis=0)
    ticks = [tick for tick in _TICKS_HZ if centers[0] <= tick <= centers[-1]]
    axes.set_yticks(np.interp(ticks, centers, heard), [f"{tick:,}" for tick in ticks])
    axes.set_ylabel("mel band, Hz")
    figure.colorbar(image, ax=axes, pad=0.01, label="log-mel")


def _draw_classes(figure: Any, axes: Any, timeline: Timeline, classes: list[int]) -> None:
    rows = timeline.probabilities[:, classes].T  # (classes, frames)
    mesh = axes.pcolormesh(
        timeline.edges, np.arange(len(classes) + 1) - 0.5, rows, cmap="Blues", vmin=0, vmax=1, rasterized=True
    )
    names = [timeline.labels.names[k] for k in classes]
    clipwise = [timeline.clipwise[k] for k in classes]
    axes.set_yticks(range(len(classes)), [f"{_shortened(n)}  {p:.2f}" for n, p in zip(names, clipwise, strict=True)])
    axes.set_yticks(np.arange(1, len(classes)) - 0.5, minor=True)
    axes.grid(which="minor", axis="y", color="0.8", linewidth=0.8)
    axes.tick_params(axis="y", which="both", length=0)
    axes.invert_yaxis()
    figure.colorbar(mesh, ax=axes, pad=0.01, label="probability")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1].rstrip(" ,") + "…"


def _clock(seconds: float, _: int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
