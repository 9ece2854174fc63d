"""Sound in which none of the user's classes is, to count false alarms in: two halves that share no second."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kerastag.audio.formats import find_audio_files
from kerastag.audio.reading import read_blocks
from kerastag.custom.noises import draw_noise
from kerastag.data.other_sounds import OTHER_SOUNDS
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.rng import generator

__all__ = ["SYNTHETIC_KINDS", "AmbientHalf", "split_ambient"]

SYNTHETIC_KINDS = ("silence", "faint noise", *OTHER_SOUNDS, *5 * ("broad noise",))
"""Kinds of the built-in ambient sound, in turn.

A third of it is broad noise. Of the colors and bands of noise, some only are like a steady sound such as rain, and a
few noises show too few of them.
"""

_BLOCK_SECONDS, _BLOCKS_PER_STRETCH = 10.0, 30
_SOUND_SECONDS = 10.0
_PEAKS_DB = (-6.0, -26.0, -46.0)  # of each synthetic sound, which is played once at each level
_FAINT_PEAKS_DB = (-50.0, -60.0, -70.0)
_SEED = 26
_BACKGROUNDS_PER_STRETCH, _MAX_BACKGROUNDS = 2, 12


@dataclass(frozen=True)
class AmbientHalf:
    """One half of the ambient sound: every other stretch of the recordings, and synthetic sounds of its own.

    Args:
        number: 0 for the half that thresholds are chosen on, 1 for the half of the report.
        paths: Recordings of the user, of which each stretch of five minutes is in one half.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.
        synthetic_hours: Duration of the synthetic sounds.

    Attributes:
        errors: Messages of the recordings that could not be read so far.
    """

    number: int
    paths: tuple[Path, ...]
    channel: str | int = "mean"
    synthetic_hours: float = 0.75
    errors: list[str] = field(default_factory=list)

    def read_recordings(self, sample_rate: int) -> Iterator[np.ndarray]:
        """Read the stretches of this half one after the other, in blocks of ten seconds and in constant memory."""
        for stretch in self._read_stretches(sample_rate):
            yield from stretch

    def synthesize(self, kinds: Sequence[str] = SYNTHETIC_KINDS) -> Iterator[tuple[str, np.ndarray]]:
        """Synthesize sounds of ten seconds at `MIX_SAMPLE_RATE`, one kind after the other, with their kinds.

        Each sound follows at three levels, so that loud and quiet ones are there; broad noise is another one each time.
        """
        num_sounds = round(self.synthetic_hours * 3600 / _SOUND_SECONDS)
        for position in range(num_sounds):
            number, level = divmod(position, len(_PEAKS_DB))
            kind = kinds[number % len(kinds)]
            if kind == "broad noise":
                random = generator(_SEED, self.number, number, level)
                yield kind, draw_noise(random, _SOUND_SECONDS, MIX_SAMPLE_RATE)
                continue
            if not level:
                waveform = _synthesize(kind, number, self.number)
            peaks = _FAINT_PEAKS_DB if kind == "faint noise" else _PEAKS_DB
            yield kind, (10 ** (peaks[level] / 20) * waveform).astype(np.float32)

    def draw_backgrounds(self, seconds: float) -> list[np.ndarray]:
        """Draw parts of the recordings of this half as backgrounds for events, at `MIX_SAMPLE_RATE`."""
        random, backgrounds = generator(_SEED, self.number), list[np.ndarray]()
        length = round(seconds * MIX_SAMPLE_RATE)
        for blocks in self._read_stretches(MIX_SAMPLE_RATE):
            stretch = np.concatenate(list(blocks))
            for start in random.integers(max(1, len(stretch) - length), size=_BACKGROUNDS_PER_STRETCH):
                backgrounds.append(stretch[start : start + length].copy())
            if len(backgrounds) >= _MAX_BACKGROUNDS:
                break
        return backgrounds

    def _read_stretches(self, sample_rate: int) -> Iterator[Iterator[np.ndarray]]:
        """Yield the blocks of each stretch of this half, which must be used up before the next one."""
        position = 0
        for path in self.paths:
            blocks = self._read(path, sample_rate)
            for first in blocks:
                stretch = itertools.chain([first], itertools.islice(blocks, _BLOCKS_PER_STRETCH - 1))
                if position % 2 == self.number:
                    yield stretch
                for _ in stretch:  # of the other half
                    pass
                position += 1

    def _read(self, path: Path, sample_rate: int) -> Iterator[np.ndarray]:
        try:
            yield from read_blocks(path, sample_rate, _BLOCK_SECONDS, channel=self.channel)
        except (ValueError, OSError) as error:
            if str(error) not in self.errors:
                self.errors.append(str(error))


def split_ambient(
    paths: Sequence[str | Path], channel: str | int = "mean", synthetic_hours: float = 0.75
) -> tuple[AmbientHalf, AmbientHalf]:
    """Split ambient sound into a half to choose thresholds on and a half for the report.

    All recordings are cut into stretches of five minutes, of which every other one belongs to the second half; a
    shorter recording is one stretch. The synthetic sounds of the two halves have different seeds.

    Args:
        paths: Recordings and folders of recordings; none for synthetic sounds alone.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.
        synthetic_hours: Duration of the synthetic sounds of each half.

    Raises:
        FileNotFoundError: There is no such recording or folder.
        ValueError: A folder has no recordings, or all of them are no longer than one stretch.

    >>> first, second = split_ambient([], synthetic_hours=0.1)
    >>> len(list(first.synthesize())), next(second.synthesize())[0]
    (36, 'silence')
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            recordings = [path / name for name in find_audio_files(path)]
            if not recordings:
                raise ValueError(f"{path}: must be a recording or a folder of recordings; received: none")
            files += recordings
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such recording or folder")
    halves = [AmbientHalf(number, tuple(files), channel, synthetic_hours) for number in range(2)]
    if files and next(halves[1].read_recordings(MIX_SAMPLE_RATE), None) is None:
        reason = f" ({halves[1].errors[0]})" if halves[1].errors else ""
        raise ValueError(
            f"`ambient` must be longer than five minutes, or several recordings; received: "
            f"{', '.join(map(str, paths))}{reason}"
        )
    return halves[0], halves[1]


def _synthesize(kind: str, number: int, half: int) -> np.ndarray:
    """Synthesize ten seconds of a kind with a peak of 1, or digital silence."""
    samples = round(_SOUND_SECONDS * MIX_SAMPLE_RATE)
    if kind == "silence":
        return np.zeros(samples)
    random = generator(_SEED, half, number)
    name = "noise" if kind == "faint noise" else kind
    waveform = OTHER_SOUNDS[name](np.arange(samples) / MIX_SAMPLE_RATE, random)
    return waveform / max(1e-12, np.abs(waveform).max())
