"""The clips of a run: the user's recordings, and clips of background after them."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from kerastag.audio import load as load_audio
from kerastag.audio.formats import find_audio_files
from kerastag.bundled import OTHER_SOUNDS_PATH, OTHER_SOUNDS_SECONDS
from kerastag.custom.config import CustomConfig
from kerastag.custom.noises import synthesize_noises
from kerastag.data.audio_list_reading import read_audio_list
from kerastag.data.audio_lists import Recording, report_list
from kerastag.data.other_sounds import OtherSounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.data.splits import assign_folds

__all__ = [
    "BACKGROUND",
    "Clip",
    "Clips",
    "load_bundled_sounds",
    "load_clips",
    "read_windows",
    "synthesize_background",
    "synthesize_other_sounds",
]

BACKGROUND = "background"
"""Name of the class of clips that contain none of the other classes."""

_NOISE_SECONDS = 5
_SPECTRAL_TILTS = (0.0, 0.5, 1.0)  # white, pink and brown noise
_NOISE_LEVELS = (1e-4, 3e-4, 1e-3)
_NUM_OTHER_SOUNDS = 48
_OTHER_SOUND_PEAKS = (-2.0, -0.3)  # powers of ten


Clip = Recording | np.ndarray
"""A recording, or the waveform of synthetic background."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Labeled clips.

    Attributes:
        source: Folder or list that the recordings come from, for messages.
        missing: Names in the list of recordings for which there is no file.
        class_names: Names of the classes.
        audio: Recordings, or waveforms of synthetic background.
        targets: Labels, bool `(clips, classes)`.
        folds: Fold of every clip from 0, int `(clips,)`; -1 for clips that are always trained on: background, and clips
            of which not all labels are known.
        is_known: Whether each label is known, bool `(clips, classes)`. A clip with negative labels alone has unknown
            labels of the other classes, which must not count in a loss.
    """

    source: str
    missing: tuple[str, ...]
    class_names: tuple[str, ...]
    audio: tuple[Clip, ...]
    targets: np.ndarray
    folds: np.ndarray
    is_known: np.ndarray

    def __len__(self) -> int:
        return len(self.audio)

    def select(self, rows: np.ndarray) -> "Clips":
        """Select clips by row number."""
        selected = tuple(self.audio[row] for row in rows)
        arrays = {name: getattr(self, name)[rows] for name in ("targets", "folds", "is_known")}
        return replace(self, audio=selected, **arrays)

    @property
    def recordings(self) -> np.ndarray:
        """Rows of the clips that can be held out: the user's recordings, and background where no other class is.

        A clip of which not all labels are known is not among them.
        """
        return np.flatnonzero((self.folds >= 0) & self.is_known.all(axis=1))

    def split_fold(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the clips to train on where a fold is held out, and the rows of those to predict."""
        held_out = self.recordings[self.folds[self.recordings] == fold]
        return np.flatnonzero(self.folds != fold), held_out

    def compute_digest(self) -> str:
        """Compute a digest of the names, parts, sizes and labels of the user's recordings."""
        digest = hashlib.sha256(" ".join(self.class_names).encode())
        for clip, targets, is_known in zip(self.audio, self.targets, self.is_known, strict=True):
            if isinstance(clip, Recording):
                size = clip.path.stat().st_size if clip.path.is_file() else None
                row = clip.name, size, clip.start_seconds, clip.end_seconds, targets.tolist(), is_known.tolist()
                digest.update(repr(row).encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def has_single_labels(self) -> bool:
        """Whether every recording has one label."""
        return bool((self.targets[self.recordings].sum(axis=1) == 1).all())


def load_clips(config: CustomConfig, sample_rate: int) -> Clips:
    """List the clips of a run, with their labels and folds; synthetic background has this sample rate.

    Raises:
        FileNotFoundError: There is no such folder or list.
        ValueError: A line of the list is invalid, the recordings cannot be assigned to folds, `background` is not a
            folder of recordings, or there is nothing that the only class could be told apart from.
    """
    listed = read_audio_list(
        config.audio_dir,
        config.labels,
        path_column=config.path_column,
        label_column=config.label_column,
        separator=config.separator,
        excerpts=config.excerpts,
        allow_negatives=True,
    ).drop_empty_classes()  # AudioSet's lists have all of its classes
    report_list(listed)
    labeled, others = (
        replace(listed, recordings=tuple(each for each in listed.recordings if bool(each.labels) == has_labels))
        for has_labels in (True, False)
    )
    folds = assign_folds(labeled, config.folds, pattern=config.fold_pattern, seed=config.seeds[0])
    has_negatives = not labeled.targets.all()
    background = _load_background(config.background, sample_rate)
    names = listed.labels.names
    class_names = (*names, BACKGROUND) if background and BACKGROUND not in names else names
    if not has_negatives and not len(others) and class_names == names:
        raise ValueError(
            f"{listed.source}: must have recordings without {names[0]!r}, or `background` must not be none"
        )
    first_background = len(listed)
    targets = np.zeros((len(listed) + len(background), len(class_names)), bool)
    targets[: len(labeled), : len(names)] = labeled.targets
    is_known = np.ones_like(targets)
    is_known[len(labeled) : first_background, : len(names)] = others.negatives
    if class_names != names:
        # A recording that has none of the classes is background.
        has_none = others.negatives.all(axis=1)
        targets[len(labeled) : first_background, -1] = is_known[len(labeled) : first_background, -1] = has_none
    if background:
        targets[first_background:, class_names.index(BACKGROUND)] = True
    always_trained = np.full(len(others) + len(background), -1)
    if not has_negatives:
        is_complete = is_known[len(labeled) :].all(axis=1)
        always_trained[is_complete] = np.arange(is_complete.sum()) % (folds.max() + 1)
    return Clips(
        source=listed.source,
        missing=listed.missing,
        class_names=class_names,
        audio=(*labeled.recordings, *others.recordings, *background),
        targets=targets,
        folds=np.concatenate([folds, always_trained]),
        is_known=is_known,
    )


def read_windows(
    clip: Clip, sample_rate: int, window_seconds: float, channel: str | int = "mean"
) -> Iterator[np.ndarray]:
    """Read a clip in windows of at most `window_seconds`, the last one of at least half a second, in constant memory.

    A window that is shorter than a second is padded with zeros.

    Raises:
        ValueError: The file is not audio, or is damaged.
        OSError: The file cannot be read.
    """
    if isinstance(clip, np.ndarray):
        yield clip
        return
    for number, window in enumerate(clip.read_blocks(sample_rate, channel=channel, block_seconds=window_seconds)):
        if not number or len(window) >= sample_rate / 2:
            yield np.pad(window, (0, max(0, sample_rate - len(window))))


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


@functools.cache  # It takes a second, and a run lists its clips several times.
def synthesize_other_sounds(sample_rate: int) -> tuple[np.ndarray, ...]:
    """Synthesize clips of noises, tones, and speech-like and music-like sounds, the same for each call."""
    sounds, random, waveforms = OtherSounds(), np.random.default_rng(0), list[np.ndarray]()
    for _ in range(_NUM_OTHER_SOUNDS):
        waveform = sounds.load_waveform(sounds.draw(random, _NOISE_SECONDS))
        waveform = soxr.resample(waveform, MIX_SAMPLE_RATE, sample_rate)
        peak = 10 ** random.uniform(*_OTHER_SOUND_PEAKS)
        waveform = np.pad(waveform, (0, max(0, sample_rate - len(waveform))))
        waveforms.append((peak * waveform / np.abs(waveform).max()).astype(np.float32))
    return tuple(waveforms)


def load_bundled_sounds(sample_rate: int) -> list[np.ndarray]:
    """Load the short recordings of instruments, tools, steps, doors, water and fire that kerastag comes with.

    >>> sounds = load_bundled_sounds(8000)
    >>> len(sounds), sounds[0].shape
    (263, (12000,))
    """
    waveform, random = load_audio(OTHER_SOUNDS_PATH, sample_rate), np.random.default_rng(0)
    samples = round(OTHER_SOUNDS_SECONDS * sample_rate)
    sounds = waveform[: round(len(waveform) / samples) * samples].reshape(-1, samples)
    peaks = 10 ** random.uniform(*_OTHER_SOUND_PEAKS, len(sounds))
    return [(peak * sound / np.abs(sound).max()).astype(np.float32) for peak, sound in zip(peaks, sounds, strict=True)]


def _load_background(background: str, sample_rate: int) -> list[Clip]:
    if background == "none":
        return []
    if background in ("bundled", "synthetic"):
        recorded = load_bundled_sounds(sample_rate) if background == "bundled" else []
        synthetic = *synthesize_background(sample_rate), *synthesize_other_sounds(sample_rate)
        return [*synthetic, *synthesize_noises(sample_rate), *recorded]
    folder = Path(background)
    paths = find_audio_files(folder) if folder.is_dir() else []
    if not paths:
        allowed = "bundled, synthetic, none or a folder of recordings"
        raise ValueError(f"`background` must be {allowed}; received: {background!r}")
    return [Recording(folder / path, path.as_posix(), ()) for path in paths]
