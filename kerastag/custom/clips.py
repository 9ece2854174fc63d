"""The clips of a run: the user's recordings, and clips of background after them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.custom.config import CustomConfig
from kerastag.data.audio_lists import read_audio_list
from kerastag.data.splits import assign_folds

__all__ = ["BACKGROUND", "Clips", "load_clips", "load_waveform", "synthesize_background"]

BACKGROUND = "background"
"""Name of the class of clips that contain none of the other classes."""

_NOISE_SECONDS = 5
_SPECTRAL_TILTS = (0.0, 0.5, 1.0)  # white, pink and brown noise
_NOISE_LEVELS = (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True, eq=False)
class Clips:
    """Labeled clips.

    Attributes:
        source: Folder or list that the recordings come from, for messages.
        missing: Names in the list of recordings for which there is no file.
        class_names: Names of the classes.
        audio: Path of every recording, or the waveform of synthetic background.
        targets: Labels, bool `(clips, classes)`.
        folds: Fold of every recording from 0, int `(clips,)`; -1 for background, which is always trained on.
    """

    source: str
    missing: tuple[str, ...]
    class_names: tuple[str, ...]
    audio: tuple[Path | np.ndarray, ...]
    targets: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        return len(self.audio)

    def select(self, rows: np.ndarray) -> "Clips":
        """Select clips by row number."""
        selected = tuple(self.audio[row] for row in rows)
        return replace(self, audio=selected, targets=self.targets[rows], folds=self.folds[rows])

    @property
    def recordings(self) -> np.ndarray:
        """Rows of the user's recordings, which can be held out."""
        return np.flatnonzero(self.folds >= 0)

    @property
    def has_single_labels(self) -> bool:
        """Whether every recording has one label."""
        return bool((self.targets[self.recordings].sum(axis=1) == 1).all())


def load_clips(config: CustomConfig, sample_rate: int) -> Clips:
    """List the clips of a run, with their labels and folds; synthetic background has this sample rate.

    Raises:
        FileNotFoundError: There is no such folder or list.
        ValueError: A line of the list is invalid, the recordings cannot be assigned to folds, or `background` is not a
            folder of recordings.
    """
    listed = read_audio_list(config.audio_dir, config.labels)
    folds = assign_folds(listed, config.folds, pattern=config.fold_pattern, seed=config.seeds[0])
    background = _load_background(config.background, sample_rate)
    names = listed.labels.names
    class_names = (*names, BACKGROUND) if background and BACKGROUND not in names else names
    targets = np.zeros((len(listed) + len(background), len(class_names)), bool)
    targets[: len(listed), : len(names)] = listed.targets
    if background:
        targets[len(listed) :, class_names.index(BACKGROUND)] = True
    return Clips(
        source=listed.source,
        missing=listed.missing,
        class_names=class_names,
        audio=(*(recording.path for recording in listed.recordings), *background),
        targets=targets,
        folds=np.concatenate([folds, np.full(len(background), -1)]),
    )


def load_waveform(clip: Path | np.ndarray, sample_rate: int, max_seconds: float) -> np.ndarray:
    """Load an element of `Clips.audio` as a mono waveform, padded with zeros to at least one second.

    Raises:
        ValueError: The file is not audio, or is damaged.
        OSError: The file cannot be read.
    """
    if isinstance(clip, np.ndarray):
        return clip
    waveform = audio.load(clip, sample_rate, duration_seconds=max_seconds)
    return np.pad(waveform, (0, max(0, sample_rate - len(waveform))))


def synthesize_background(sample_rate: int) -> list[np.ndarray]:
    """Synthesize clips of silence and faint noise, the same for each call.

    >>> clips = synthesize_background(8000)
    >>> len(clips), clips[1].shape, [f"{clip.std():.4f}" for clip in clips[:3]]
    (10, (40000,), ['0.0000', '0.0001', '0.0003'])
    """
    random, samples = np.random.default_rng(0), _NOISE_SECONDS * sample_rate
    waveforms = [np.zeros(samples, np.float32)]
    for tilt in _SPECTRAL_TILTS:
        for level in _NOISE_LEVELS:
            spectrum = np.fft.rfft(random.standard_normal(samples))
            spectrum /= np.maximum(1, np.arange(len(spectrum))) ** tilt
            noise = np.fft.irfft(spectrum)
            waveforms.append((level * noise / noise.std()).astype(np.float32))
    return waveforms


def _load_background(background: str, sample_rate: int) -> list[Path | np.ndarray]:
    if background == "none":
        return []
    if background == "synthetic":
        return [*synthesize_background(sample_rate)]
    folder = Path(background)
    paths = find_audio_files(folder)
    if not paths:
        raise ValueError(f"`background` must be synthetic, none or a folder of recordings; received: {background!r}")
    return [folder / path for path in paths]
