"""Packs of the embeddings of an archive, which the recipes for embeddings train on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from kerastag.archive.plan import load_plan
from kerastag.archive.tables import list_parts
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.feature_pack_writer import FeaturePackWriter

__all__ = ["EmbeddingPackReport", "pack_embeddings"]

_TOLERANCE_SECONDS = 1e-6


@dataclass(frozen=True)
class EmbeddingPackReport:
    """Counts of a pack of embeddings that was written.

    Attributes:
        path: Path of the pack.
        num_clips: Number of clips in it.
        truncated: Number of clips with more segments, of which only the first are in the pack.
        skipped: Names of the labeled recordings without an embedding in the archive.
    """

    path: Path
    num_clips: int
    truncated: int
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        problems = {"truncated": self.truncated, "skipped": len(self.skipped)}
        counts = "".join(f", {number:,} {name}" for name, number in problems.items() if number)
        return f"{self.path}: {self.num_clips:,} clips{counts}"


def pack_embeddings(
    archive: str | os.PathLike[str], recordings: AudioList, output: str | os.PathLike[str], *, num_segments: int = 10
) -> EmbeddingPackReport:
    """Write the embeddings of labeled recordings into a pack, float32, in the order of the archive.

    A recording with a start and an end gets the segments between them.

    Args:
        archive: Folder of an archive with embeddings.
        recordings: Recordings, as `read_audio_list` returns them.
        output: Path of the pack to write, which ends in `.h5`.
        num_segments: Largest number of segments of a clip, 1 to 255.

    Returns:
        Counts of the pack.

    Raises:
        FileNotFoundError: The folder is not an archive.
        ValueError: The archive has no embeddings, or none of the recordings has one.
        OSError: The disk is full.
    """
    base = load_plan(Path(archive))["base"]
    parts = list_parts(Path(archive), "embeddings")
    if not parts:
        raise ValueError(f"{archive}: must be an archive with embeddings, from --embeddings; received: none")
    by_path: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings.recordings):
        by_path.setdefault(os.path.abspath(recording.path), []).append(number)  # noqa: PTH100 - keeps symbolic links
    labels, targets = recordings.labels, recordings.targets
    num_features = pq.read_schema(parts[0]).field("embedding").type.list_size
    classes = {"class_names": json.dumps(list(labels.names)), "class_mids": json.dumps(list(labels.mids))}
    is_packed, truncated = np.zeros(len(recordings), bool), 0
    with FeaturePackWriter(
        Path(output),
        num_classes=len(labels),
        num_segments=num_segments,
        num_features=num_features,
        dtype="float32",
        attributes=classes,
    ) as writer:
        for file, starts, ends, embeddings in _read_files(parts):
            for number in by_path.get(os.path.abspath(os.path.join(base, file)), ()):  # noqa: PTH100, PTH118
                recording = recordings.recordings[number]
                segments = embeddings[_select(recording, starts, ends)]
                if not len(segments):
                    continue
                x = np.zeros((1, num_segments, num_features), np.float32)
                count = min(len(segments), num_segments)
                x[0, :count] = segments[:count]
                writer.append(x, [count], targets[number : number + 1], [recording.name])
                truncated += len(segments) > num_segments
                is_packed[number] = True
        if not is_packed.any():
            raise ValueError(f"{archive}: must have embeddings of recordings of {recordings.source}; received: none")
        writer.finish()
    skipped = (recordings.recordings[number].name for number in np.flatnonzero(~is_packed))
    return EmbeddingPackReport(Path(output), int(is_packed.sum()), truncated, tuple(skipped))


def _read_files(parts: list[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the name of each file, the starts and ends of its segments and their embeddings."""
    for path in parts:
        table = pq.read_table(path)
        if not len(table):
            continue
        names = table["file"].dictionary_encode().combine_chunks().indices.to_numpy()
        starts, ends = table["start_seconds"].to_numpy(), table["end_seconds"].to_numpy()
        embeddings = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        borders = np.flatnonzero(np.diff(names)) + 1
        for first, end in zip([0, *borders.tolist()], [*borders.tolist(), len(table)], strict=True):
            yield table["file"][first].as_py(), starts[first:end], ends[first:end], embeddings[first:end]


def _select(recording: Recording, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return whether each segment belongs to a recording."""
    end_seconds = np.inf if recording.end_seconds is None else recording.end_seconds
    is_after = starts >= recording.start_seconds - _TOLERANCE_SECONDS
    return is_after & (ends <= end_seconds + _TOLERANCE_SECONDS)
