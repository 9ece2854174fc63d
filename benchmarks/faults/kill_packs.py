"""Packs whose process is killed at every write, flush, rename and removal, once whole and once torn, and is run again.

A checkpoint follows every block, so that all of them are met. The final files must have the same bytes as those of an
undisturbed process, and nothing else may be left.
"""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _kills import Killer, call_in_child

from kerastag.data import audio_pack_writer, resumable_writer
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.audio_pack_writer import pack_waveforms
from kerastag.data.feature_pack_writer import FeaturePackWriter
from kerastag.data.sound_sources import SyntheticSounds
from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import write_soundscapes
from kerastag.labels import LabelSet

_RATE = 1_000


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Kill the writers of every kind of pack; `quick` tries every twelfth moment."""
    audio_pack_writer._CHECKPOINT_SECONDS, audio_pack_writer._BLOCK_CLIPS, resumable_writer._BLOCK_BYTES = 0, 2, 1000
    for kind, write in {"audio": _pack_audio, "features": _pack_features, "soundscapes": _make_soundscapes}.items():
        with tempfile.TemporaryDirectory() as folder:
            yield _kill_everywhere(kind, write, Path(folder), step=12 if quick else 1)


def _pack_audio(folder: Path) -> None:
    random = np.random.default_rng(0)
    waveforms = random.uniform(-1, 1, (7, 900)).astype(np.float32)
    clips = tuple(Recording(Path(f"{i}.wav"), f"{i}.wav", (i % 2,)) for i in range(len(waveforms)))
    recordings = AudioList(clips, LabelSet.from_names(["even", "odd"]), (), "synthetic")
    options = {"sample_rate": _RATE, "clip_seconds": 1.0, "fingerprint": "", "progress": False}
    pack_waveforms(recordings, lambda i: f"{i}.wav: damaged" if i == 3 else waveforms[i], folder / "a.h5", **options)


def _pack_features(folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 10, 8)).astype(np.uint8)
    names = ["c", "a", "d", "b"]  # A tar has its files in any order.
    with FeaturePackWriter(folder / "f.h5", num_classes=3, num_features=8, fingerprint="") as writer:
        for i in range(writer.resumed_files, 4):
            ids = [f"a longer name {i}" if i == 2 else f"{row}" for row in range(3)]
            writer.append(x[3 * i : 3 * i + 3], [10, 10, 10], np.eye(3, dtype=bool), ids)
            writer.mark_file_end(names[i], len(writer))
            writer.checkpoint()
        writer.finish()


def _make_soundscapes(folder: Path) -> None:
    config = SoundscapeConfig(soundscape_seconds=0.5, max_event_seconds=0.3)
    options = {"sample_rate": _RATE, "config": config, "progress": False, "with_audio": True, "with_jams": True}
    write_soundscapes(SyntheticSounds(), folder, "eval", 5, **options)


def _kill_everywhere(kind: str, write: Callable[[Path], Any], folder: Path, step: int) -> tuple[str, int, int, str]:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    undisturbed.mkdir()
    call_in_child(lambda: write(undisturbed))
    expected = _read_all(undisturbed)
    tries, reasons = 0, []
    for torn in (False, True):
        for kill_at in range(1, 100_000, step):
            shutil.rmtree(killed, ignore_errors=True)
            killed.mkdir()
            status = call_in_child(lambda: write(killed), Killer(kill_at, torn))
            if status == 0:  # It has fewer writes.
                break
            tries += 1
            moment = f"{'torn ' if torn else ''}write {kill_at}"
            if status != -signal.SIGKILL or (status := call_in_child(lambda: write(killed))) != 0:
                reasons.append(f"{moment}: status {status}")
            elif _read_all(killed) != expected:
                reasons.append(f"{moment}: other files")
    return f"kill -9 at a write of {kind}", tries, len(reasons), "; ".join(reasons[:3])


def _read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
