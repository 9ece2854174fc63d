"""The pool: parts of recordings without labels, with their embeddings."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastag.audio import AudioWarning, find_audio_files
from kerastag.custom.embedding_cache import EmbeddingCache
from kerastag.custom.embeddings import Kind, PretrainedBackbone
from kerastag.custom.progress import show_progress
from kerastag.data.audio_lists import Recording, report_skipped
from kerastag.files import compute_digest

__all__ = ["Pool", "embed_pool", "find_recordings"]

_BLOCK_SECONDS = 30.0
_PARTS_PER_BATCH = 8
_CACHE_FORMAT = 2


@dataclass(frozen=True, eq=False)
class Pool:
    """Parts of recordings, of one length except the last one of each recording.

    Attributes:
        parts: Parts, in the order of the recordings and of time.
        bags: Embeddings of the seconds or output frames of each part, float16 or float32 `(segments, features)`.
    """

    parts: tuple[Recording, ...]
    bags: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def hours(self) -> float:
        """Duration of all parts, hours."""
        return sum((part.end_seconds or 0.0) - part.start_seconds for part in self.parts) / 3600

    def count_runs(self, is_alarm: np.ndarray) -> int:
        """Count the alarms of all classes, of which neighboring parts with an alarm of one class have one.

        Args:
            is_alarm: Whether each part has an alarm of each class, bool `(parts, classes)`.
        """
        files = np.array([str(part.path) for part in self.parts])
        begins = is_alarm.copy()
        begins[1:] &= ~(is_alarm[:-1] & (files[1:] == files[:-1])[:, None])
        return int(begins.sum())


def find_recordings(paths: Iterable[str | Path], left_out: Collection[Path]) -> list[Path]:
    """Find recordings, and those in folders, as absolute paths without symbolic links, each once.

    Args:
        paths: Paths of recordings and folders.
        left_out: Paths of recordings to leave out.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: There is no recording.
    """
    names: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such recording or folder")
        with warnings.catch_warnings():  # Other files in a folder do not matter.
            warnings.simplefilter("ignore", AudioWarning)
            new_paths = [path / name for name in find_audio_files(path)] if path.is_dir() else [path]
        names |= dict.fromkeys(each.resolve() for each in new_paths)
    recordings = [path for path in names if path not in left_out]
    if not recordings:
        raise ValueError("`recordings` must have at least one recording that is not a clip of the run; received: none")
    return recordings


def embed_pool(
    backbone: PretrainedBackbone,
    paths: Sequence[Path],
    window_seconds: int,
    cache_path: Path,
    channel: str | int = "mean",
    kind: Kind = "frames",
) -> Pool:
    """Embed recordings in parts, in constant memory beside the embeddings, or read these from the cache.

    Output frames are embedded with the sound of their part alone, as those of a clip of the run are, and are kept in
    float16, since there are many. Recordings that cannot be read are named on standard error.

    Args:
        backbone: Backbone of the run.
        paths: Paths of the recordings.
        window_seconds: Length of a part, seconds.
        cache_path: Path of the cache of embeddings.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.
        kind: What a bag consists of.
    """
    settings = f"pool {_CACHE_FORMAT} {compute_digest(backbone.path)} {channel} {kind}"
    settings += f" {window_seconds}" if kind == "frames" else ""
    parts: list[Recording] = []
    bags: list[np.ndarray] = []
    errors = []
    with EmbeddingCache(cache_path, settings) as cache, show_progress("embedding", unit="seconds") as progress:
        for path in paths:
            recording = Recording(path, path.name, ())
            try:
                key = cache.compute_key(recording)
                entry = cache.read([key]).get(key)
                if entry is None:
                    if kind == "seconds":
                        entry = [_embed_seconds(backbone, recording, channel, progress.advance)]
                    else:
                        entry = _embed_frames(backbone, recording, channel, window_seconds, progress.advance)
                    cache.write(key, entry)
            except (ValueError, OSError) as error:
                errors.append(str(error))
                continue
            embeddings = entry[0]
            lengths, seconds = entry[1:] if kind == "frames" else _divide_seconds(len(embeddings), window_seconds)
            for number, bag in enumerate(np.split(embeddings, np.cumsum(lengths)[:-1])):
                start = float(number * window_seconds)
                end = start + float(seconds[number])
                parts.append(Recording(path, path.name, (), start_seconds=start, end_seconds=end))
                bags.append(bag)
    report_skipped(errors, len(paths))
    return Pool(tuple(parts), tuple(bags))


def _embed_seconds(
    backbone: PretrainedBackbone, recording: Recording, channel: str | int, advance: Callable[[int], None]
) -> np.ndarray:
    embedder, sample_rate = backbone.embedders["seconds"], backbone.card.sample_rate
    embeddings: list[np.ndarray] = []
    for block in recording.read_blocks(sample_rate, channel=channel, block_seconds=_BLOCK_SECONDS):
        if embeddings and 2 * len(block) < sample_rate:
            break  # a remainder of less than half a second
        waveform = np.pad(block, (0, max(0, sample_rate - len(block))))
        embeddings.append(np.asarray(embedder.predict_on_batch(waveform[None])[0], np.float32))
        advance(len(embeddings[-1]))
    return np.concatenate(embeddings)


def _divide_seconds(count: int, window_seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide embeddings of seconds into parts, and return the number of segments and of seconds of each."""
    lengths = np.minimum(window_seconds, count - np.arange(0, count, window_seconds))
    return lengths, lengths


def _embed_frames(
    backbone: PretrainedBackbone,
    recording: Recording,
    channel: str | int,
    window_seconds: int,
    advance: Callable[[int], None],
) -> list[np.ndarray]:
    """Embed the parts of a recording.

    Returns:
        The output frames of all parts `(frames, features)`; and for each part, their number and its length in seconds.
    """
    embedder, sample_rate = backbone.embedders["frames"], backbone.card.sample_rate
    bags: list[np.ndarray] = []
    seconds: list[float] = []
    blocks = recording.read_blocks(sample_rate, channel=channel, block_seconds=float(window_seconds))
    while batch := list(itertools.islice(blocks, _PARTS_PER_BATCH)):
        for _, group in itertools.groupby(batch, len):  # The last part is shorter.
            waveforms = list(group)
            if bags and 2 * len(waveforms[0]) < sample_rate:
                break  # a remainder of less than half a second
            missing = max(0, sample_rate - len(waveforms[0]))
            outputs = embedder.predict_on_batch(np.pad(np.stack(waveforms), [(0, 0), (0, missing)]))
            bags += list(np.asarray(outputs, np.float16))
            seconds += [len(waveform) / sample_rate for waveform in waveforms]
            advance(round(len(waveforms) * len(waveforms[0]) / sample_rate))
    return [np.concatenate(bags), np.array([len(bag) for bag in bags]), np.array(seconds)]
