"""Write `kerastag/bundled/other_sounds.ogg`: short sounds of no class, which are background for custom taggers.

    python export/bundled_sounds.py FOLDER [FOLDER ...]

Of each recording in the folders, the loudest 1.5 s are taken, or all of it with silence after it; all are joined. The
file was made of these packages of Debian 12, unpacked: sonic-pi-samples and minetest-data; other_sounds.md beside it
has their licenses. ffmpeg encodes it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from kerastag.audio import find_audio_files, load
from kerastag.bundled import OTHER_SOUNDS_PATH, OTHER_SOUNDS_SECONDS
from kerastag.files import atomic_path

SAMPLE_RATE = 48_000
MIN_SECONDS = 0.15
MIN_PEAK = 1e-3
PEAK = 0.5
BITS_PER_SECOND = 32_000


def main() -> int:
    """Write the file and print how many sounds it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="Folder of recordings.")
    folders = parser.parse_args().folders
    waveforms = (waveform for folder in folders for waveform in load_all(folder))
    sounds = [select_loudest(each) for each in waveforms if is_audible(each)]
    with tempfile.TemporaryDirectory() as temporary, atomic_path(OTHER_SOUNDS_PATH) as output:
        wav_path = Path(temporary, "joined.wav")
        soundfile.write(wav_path, np.concatenate(sounds), SAMPLE_RATE)
        options = ["-c:a", "libopus", "-b:a", str(BITS_PER_SECOND), "-f", "ogg", "-bitexact"]
        subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-i", wav_path, *options, output], check=True)
    print(f"{OTHER_SOUNDS_PATH}: {len(sounds)} sounds, {OTHER_SOUNDS_PATH.stat().st_size / 1e6:.2f} MB")
    return 0


def load_all(folder: Path) -> Iterator[np.ndarray]:
    """Load the recordings of a folder; files that are something else under the name of audio are named."""
    for path in find_audio_files(folder):
        try:
            yield load(folder / path, SAMPLE_RATE)
        except ValueError as error:
            print(f"skipped: {error}", file=sys.stderr)


def is_audible(waveform: np.ndarray) -> bool:
    """Return whether a recording is long and loud enough to be a sound."""
    return len(waveform) >= MIN_SECONDS * SAMPLE_RATE and np.abs(waveform).max() >= MIN_PEAK


def select_loudest(waveform: np.ndarray) -> np.ndarray:
    """Return the loudest part of a recording, at one level, with silence after a shorter one."""
    samples = round(OTHER_SOUNDS_SECONDS * SAMPLE_RATE)
    padded = np.pad(waveform, (0, max(0, samples - len(waveform))))
    energy = np.concatenate([[0.0], np.cumsum(padded.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    part = padded[start : start + samples]
    return part * (PEAK / np.abs(part).max())


if __name__ == "__main__":
    sys.exit(main())
