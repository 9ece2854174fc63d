"""Plots of recordings: log-mel, and the probabilities of the classes below it."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.dsp import FrontEnd, StreamingLogMel
from kerastag.files import write_atomically
from kerastag.tagger.results import Timeline

__all__ = ["check_plot_path", "compute_log_mel_overview", "plot_timeline"]

_MAX_COLUMNS = 3000  # more than a plot resolves
_TICKS_HZ = (250, 500, 1_000, 2_000, 4_000, 8_000, 14_000)
_MAX_NAME_LENGTH = 36
_SUFFIXES = (".png", ".pdf", ".svg")


def compute_log_mel_overview(blocks: Iterable[np.ndarray], front_end: FrontEnd, duration_seconds: float) -> np.ndarray:
    """Compute the log-mel of a recording, `(columns, mel_bins)`, in memory that does not grow with the recording.

    There are at most 3,000 columns, each the mean of as many frames as necessary.

    Args:
        blocks: Consecutive parts of the waveform at the sample rate of the front end, each `(samples,)`.
        front_end: Front end of the log-mel.
        duration_seconds: Duration of all blocks together, seconds, above 0.

    >>> from kerastag.dsp import FRONT_ENDS
    >>> from kerastag.tagger import compute_log_mel_overview
    >>> minute = (np.zeros(160_000, np.float32) for _ in range(6))
    >>> compute_log_mel_overview(minute, FRONT_ENDS["vggish"], duration_seconds=60.0).shape
    (2999, 64)
    """
    frames_per_column = max(1, math.ceil(duration_seconds * front_end.frames_per_second / _MAX_COLUMNS))
    stream = StreamingLogMel(front_end)
    rest, columns = np.zeros((0, front_end.num_mel_bins), np.float32), []
    last_frames = (stream.flush() for _ in range(1))  # computed after all blocks
    for frames in itertools.chain(map(stream.feed, blocks), last_frames):
        rest = np.concatenate([rest, frames])
        num_used = len(rest) - len(rest) % frames_per_column
        grouped = rest[:num_used].reshape(-1, frames_per_column, rest.shape[1])  # (columns, frames, mel_bins)
        columns.append(grouped.mean(axis=1))
        rest = rest[num_used:]
    if len(rest):
        columns.append(rest.mean(axis=0, keepdims=True))
    return np.concatenate(columns)


def plot_timeline(
    timeline: Timeline,
    classes: Sequence[int],
    log_mel: np.ndarray,
    front_end: FrontEnd,
    output: str | os.PathLike[str],
    title: str = "",
) -> Path:
    """Plot the log-mel of a recording above the probabilities of some classes over time.

    Args:
        timeline: Timeline from `Tagger.predict_timeline`.
        classes: Indices of the classes, the first one on top, at least one.
        log_mel: Log-mel of the whole recording, `(columns, mel_bins)`, from `compute_log_mel_overview`.
        front_end: Front end of the log-mel.
        output: Path of the plot, which ends in .png, .pdf or .svg, in a folder that exists; it is returned.
        title: Title of the plot.

    Raises:
        ValueError: `classes` is empty, or the extension of `output` is unknown.
        FileNotFoundError: The folder of `output` does not exist.
        ImportError: Matplotlib is not installed.
    """
    output = check_plot_path(output)
    if not len(classes):
        raise ValueError("`classes` must hold at least one class; received: none")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows_height = 0.5 + 0.34 * len(classes)
    figure = Figure(figsize=(10, 3.4 + rows_height), layout="constrained")
    log_mel_axes, class_axes = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, rows_height))
    draw_log_mel(figure, log_mel_axes, log_mel, front_end, timeline.duration_seconds)
    _draw_classes(figure, class_axes, timeline, list(classes))
    log_mel_axes.set_title(title)
    class_axes.set_xlim(0, timeline.duration_seconds)
    class_axes.xaxis.set_major_locator(MaxNLocator(10, steps=(1, 2, 3, 5, 6, 10)))
    in_minutes = timeline.duration_seconds > 120
    class_axes.xaxis.set_major_formatter(FuncFormatter(_format_time if in_minutes else lambda x, _: f"{x:g}"))
    class_axes.set_xlabel("minutes" if in_minutes else "seconds")
    return write_atomically(output, partial(figure.savefig, dpi=150))


def check_plot_path(output: str | os.PathLike[str]) -> Path:
    """Return the path of a plot, or raise for the same reasons as `plot_timeline` if it cannot be written there."""
    output = Path(output)
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"`output` must end in one of {', '.join(_SUFFIXES)}; received: {output}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"`output` must be in a folder that exists; received: {output}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib: pip install 'kerastag[train]'")
    return output


def draw_log_mel(figure: Any, axes: Any, log_mel: np.ndarray, front_end: FrontEnd, seconds: float) -> None:
    """Draw a log-mel, `(columns, mel_bins)`, with its frequencies on the vertical axis."""
    low, high = np.percentile(log_mel, (2, 99.8))
    extent = (0, seconds, -0.5, log_mel.shape[1] - 0.5)
    limits = {"vmin": low, "vmax": max(high, low + 1e-3)}
    image = axes.imshow(log_mel.T, origin="lower", aspect="auto", cmap="magma", extent=extent, **limits)
    weights = front_end.mel_matrix  # (bins, mel_bins); a low band between two bins has none
    bands = np.flatnonzero(weights.sum(axis=0) > 0)
    hz = np.arange(len(weights)) * front_end.sample_rate / front_end.fft_length
    centers = hz @ weights[:, bands] / weights[:, bands].sum(axis=0)
    ticks = [tick for tick in _TICKS_HZ if centers[0] <= tick <= centers[-1]]
    axes.set_yticks(np.interp(ticks, centers, bands), [f"{tick:,}" for tick in ticks])
    axes.set_ylabel("mel band, Hz")
    figure.colorbar(image, ax=axes, pad=0.01, label="log-mel")


def _draw_classes(figure: Any, axes: Any, timeline: Timeline, classes: list[int]) -> None:
    rows = timeline.probabilities[:, classes].T  # (classes, frames)
    borders = np.arange(len(classes) + 1) - 0.5
    mesh = axes.pcolormesh(timeline.edges, borders, rows, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    titles = [f"{shorten_name(timeline.labels.names[k])}  {timeline.clipwise[k]:.2f}" for k in classes]
    axes.set_yticks(range(len(classes)), titles)
    axes.set_yticks(borders[1:-1], minor=True)
    axes.grid(which="minor", axis="y", color="0.8", linewidth=0.8)
    axes.tick_params(axis="y", which="both", length=0)
    axes.invert_yaxis()
    figure.colorbar(mesh, ax=axes, pad=0.01, label="probability")


def shorten_name(name: str) -> str:
    """Shorten the name of a class to what fits beside a plot."""
    return name if len(name) <= _MAX_NAME_LENGTH else name[: _MAX_NAME_LENGTH - 1].rstrip(" ,") + "…"


def _format_time(seconds: float, _: int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
