"""Search of an archive: by an example, with the embeddings, and by a class, with the tags."""

from __future__ import annotations

import heapq
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from kerastag.archive.embedding_index import EmbeddingIndex, Match
from kerastag.archive.plan import load_plan
from kerastag.archive.remote import is_url
from kerastag.archive.tables import list_parts
from kerastag.card import Card
from kerastag.files import compute_digest, format_csv
from kerastag.markdown import format_table
from kerastag.tagger import Tag, Tagger
from kerastag.tagger.clips import write_clips
from kerastag.tagger.tagged_recording import TaggedEvent

__all__ = ["FORMATS", "SearchResult", "format_matches", "search_class", "search_example", "write_matches"]

FORMATS = ("table", "csv", "json")
"""Formats of matches as text."""
_COLUMNS = ("rank", "score", "file", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class SearchResult:
    """Parts of recordings, the result of a search.

    Attributes:
        name: Name of the class, or of the example.
        base: Folder to which relative paths of the archive refer.
        sample_rate: Sample rate of the model of the archive, Hz.
        matches: Parts of recordings, the highest score first.
    """

    name: str
    base: str
    sample_rate: int
    matches: list[Match]


def search_example(
    example: str | os.PathLike[str],
    archive: str | os.PathLike[str],
    *,
    top: int = 50,
    model: str | os.PathLike[str] | None = None,
    channel: str | int = "mean",
) -> SearchResult:
    """Find the parts of an archive that sound most like an example.

    The score is the cosine similarity of the embeddings; that of the example is the mean over its windows or segments.

    Args:
        example: Path of an audio file.
        archive: Folder of an archive with embeddings.
        top: Largest number of matches, at least 1.
        model: Path of the model of the archive; None takes the path that the archive has for it.
        channel: What to make of several channels of the example, as in `kerastag.audio.load`.

    Raises:
        FileNotFoundError: The archive, its embeddings, its model or the example do not exist.
        ValueError: The model is not that of the archive, or a file is damaged.
    """
    plan = load_plan(Path(archive))
    model = plan.get("model_path") if model is None else model
    if model is None or not Path(model).is_file():
        raise FileNotFoundError(f"`model` must be the file of the model of {archive}; received: {model}")
    if (digest := compute_digest(model)) != plan["model"]:
        raise ValueError(f"{model}: must be the model of the archive, {plan['model'][:12]}…; received: {digest[:12]}…")
    tagger = Tagger.load(model)
    embedding = tagger.embed(example, segment_seconds=plan["settings"]["segment_seconds"], channel=channel)
    query = embedding if embedding.ndim == 1 else embedding.mean(axis=0)
    matches = EmbeddingIndex(archive).search(query, top)
    return SearchResult(Path(example).stem, plan["base"], tagger.card.sample_rate, matches)


def search_class(class_name: str, archive: str | os.PathLike[str], *, top: int = 50) -> SearchResult:
    """Find the windows of an archive in which a class is most probable.

    Args:
        class_name: Name or identifier of a class.
        archive: Folder of an archive with tags.
        top: Largest number of matches, at least 1.

    Raises:
        FileNotFoundError: The archive does not exist, or has no tags.
        ValueError: The model of the archive has no such class, or `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"`top` must be at least 1; received: {top}")
    plan = load_plan(Path(archive))
    parts = list_parts(Path(archive), "tags")
    if not parts:
        raise FileNotFoundError(f"{archive}: no tags")
    card = Card.from_dict(plan["card"])
    if card.labels is None:
        raise ValueError(f"{archive}: the model of the archive must have classes; received: none")
    index = card.labels.index(class_name)
    best: list[tuple[float, int, Match]] = []
    number = 0
    for path in parts:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["file", "start_seconds", "end_seconds", "probability", "mid"])
            rows = rows.filter(pc.equal(rows["mid"], card.labels.mids[index])).drop_columns("mid")
            group_matches = (Match(*values.values()) for values in rows.to_pylist())
            best = heapq.nlargest(
                top, [*best, *((match.score, -(number + i), match) for i, match in enumerate(group_matches))]
            )
            number += len(rows)
    return SearchResult(card.labels.names[index], plan["base"], card.sample_rate, [each for _, _, each in best])


def format_matches(matches: Sequence[Match], format: str = "table") -> str:
    """Format matches as a Markdown table, as CSV or as a JSON list.

    Args:
        matches: Matches, the best first.
        format: One of `FORMATS`.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}; received: {format!r}")
    rows = [
        (rank, round(match.score, 6), match.file, match.start_seconds, match.end_seconds)
        for rank, match in enumerate(matches, start=1)
    ]
    if format == "csv":
        return format_csv([_COLUMNS, *rows])
    if format == "json":
        return json.dumps([dict(zip(_COLUMNS, row, strict=True)) for row in rows], indent=1, ensure_ascii=False) + "\n"
    texts = [(str(rank), f"{score:.4f}", file, f"{start:g}", f"{end:g}") for rank, score, file, start, end in rows]
    return format_table(("rank", "score", "file", "start s", "end s"), texts) + "\n"


def write_matches(
    result: SearchResult, folder: str | os.PathLike[str], format: str = "flac", channel: str | int = "mean"
) -> list[Path]:
    """Cut the matches from their recordings, each into a file whose name has its rank.

    Args:
        result: Result of a search.
        folder: Folder of the excerpts, created if missing.
        format: `"flac"` or `"wav"`.
        channel: What to make of several channels, as in `kerastag.audio.load`.

    Returns:
        Paths of the excerpts.

    Raises:
        ValueError: A recording is not a local file, or cannot be read.
        OSError: A recording does not exist any more.
    """
    ranked = [(match.file, match.start_seconds, rank, match) for rank, match in enumerate(result.matches, start=1)]
    for file, *_ in ranked:
        if is_url(file):
            raise ValueError(f"{file}: excerpts can be cut only from local files")
    paths = []
    for file, group in itertools.groupby(sorted(ranked, key=lambda item: item[:3]), key=lambda item: item[0]):
        events = [
            TaggedEvent(match.start_seconds, match.end_seconds, Tag(f"{rank:04d}_{result.name}", "", match.score))
            for _, _, rank, match in group
        ]
        source, prefix = Path(result.base, file), Path(folder, Path(file).name)
        paths += write_clips(source, events, prefix, result.sample_rate, format, channel)
    return paths
