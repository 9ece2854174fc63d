"""A plot of one labeled clip: log-mel, embeddings and weak labels."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag._command import replace_unprintable
from kerastag.data.batches import scale
from kerastag.data.packs import AudioPack, FeaturePack, open_pack
from kerastag.dsp import FRONT_ENDS
from kerastag.files import write_atomically
from kerastag.tagger.plot import check_plot_path, compute_log_mel_overview, draw_log_mel, shorten_name

__all__ = ["plot_clip"]

_FRONT_END = FRONT_ENDS["vggish"]  # that of AudioSet's embeddings


def plot_clip(
    pack: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    clip: str | None = None,
    audio_file: str | os.PathLike[str] | None = None,
    segment_seconds: float = 1.0,
) -> Path:
    """Plot a clip of a pack: its log-mel, its embeddings and its labels, which have no onset and offset.

    A pack of waveforms has no embeddings. The log-mel of a clip of a pack of embeddings needs its recording.

    Args:
        pack: Path of a pack of embeddings or waveforms.
        output: Path of the plot, which ends in .png, .pdf or .svg, in a folder that exists; it is returned.
        clip: Name of the clip in the pack, or its row number, from 0; by default, the first clip.
        audio_file: Recording of the clip, for its log-mel.
        segment_seconds: Distance from one embedding to the next, seconds, above 0; 1 for AudioSet's.

    Raises:
        FileNotFoundError: The pack, the recording or the folder of `output` does not exist.
        ValueError: The pack has no such clip, a file is damaged, or an argument is out of range.
        ImportError: Matplotlib is not installed.

    Reference:
        Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019, figure 1.
    """
    output = check_plot_path(output)
    if not segment_seconds > 0:
        raise ValueError(f"`segment_seconds` must be above 0; received: {segment_seconds}")
    with open_pack(pack, in_memory=False) as opened:
        row = _find_row(opened, clip)
        x, lengths, targets = opened.rows([row])
        values = scale(x, lengths)[0, : lengths[0]]
        names = [opened.labels.names[k] for k in np.flatnonzero(targets[0])]
        title = f"{opened.path.name}: {replace_unprintable(opened.ids[row].decode(errors='replace'))}"
        embeddings = values.T if isinstance(opened, FeaturePack) else None
        sample_rate = opened.sample_rate if isinstance(opened, AudioPack) else _FRONT_END.sample_rate
    waveform = values if embeddings is None else None
    if audio_file is not None:
        waveform, sample_rate = audio.load(audio_file, _FRONT_END.sample_rate), _FRONT_END.sample_rate
    seconds = [0.0 if waveform is None else len(waveform) / sample_rate]
    seconds.append(0.0 if embeddings is None else embeddings.shape[1] * segment_seconds)

    from matplotlib.figure import Figure

    heights = [2.6 * (waveform is not None), 2.6 * (embeddings is not None), 0.5 + 0.3 * len(names)]
    heights = [height for height in heights if height]
    figure = Figure(figsize=(10, 1 + sum(heights)), layout="constrained")
    *panels, label_axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    (panels or [label_axes])[0].set_title(title)
    if waveform is not None:
        log_mel = _compute_log_mel(waveform, sample_rate)
        draw_log_mel(figure, panels[0], log_mel, _FRONT_END, seconds[0])
    if embeddings is not None:
        _draw_embeddings(figure, panels[-1], embeddings, seconds[1])
    label_axes.barh(range(len(names)), max(seconds), color="#1f4e9e", height=0.6)
    label_axes.set_yticks(range(len(names)), [shorten_name(name) for name in names])
    label_axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, max(seconds)), xlabel="seconds")
    return write_atomically(output, partial(figure.savefig, dpi=150))


def _find_row(pack: AudioPack | FeaturePack, clip: str | None) -> int:
    if clip is None:
        return 0
    rows = np.flatnonzero(pack.ids == clip.encode())
    if len(rows):
        return int(rows[0])
    if clip.isdecimal() and int(clip) < len(pack):
        return int(clip)
    first = replace_unprintable(pack.ids[0].decode(errors="replace"))
    raise ValueError(
        f"{pack.path}: `clip` must be the name of a clip, such as {first!r}, or a row below {len(pack)}; "
        f"received: {clip!r}"
    )


def _compute_log_mel(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    import soxr

    if sample_rate != _FRONT_END.sample_rate:
        waveform = soxr.resample(waveform, sample_rate, _FRONT_END.sample_rate, quality="HQ")
    shortest = _FRONT_END.window_length
    waveform = np.pad(waveform, (0, max(0, shortest - len(waveform))))
    return compute_log_mel_overview([waveform], _FRONT_END, len(waveform) / _FRONT_END.sample_rate)


def _draw_embeddings(figure: Any, axes: Any, embeddings: np.ndarray, seconds: float) -> None:
    extent = (0, seconds, -0.5, len(embeddings) - 0.5)
    limit = float(np.abs(embeddings).max()) or 1.0
    image = axes.imshow(
        embeddings, origin="lower", aspect="auto", cmap="RdBu_r", extent=extent, vmin=-limit, vmax=limit
    )
    axes.set_ylabel("feature")
    figure.colorbar(image, ax=axes, pad=0.01, label="embedding")
