"""The settings that decide the rows of an archive."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.events.rules import DURATIONS
from kerastag.tagger.results import check_tag_limits

__all__ = ["ArchiveSettings", "Job"]


@dataclass(frozen=True)
class ArchiveSettings:
    """What decides the rows of an archive, besides its files and its model.

    Args:
        threshold: Least probability of a tag, in [0, 1], and probability at which an event begins; None takes the
            thresholds of the model, or 0 for tags if `top` is given.
        top: Largest number of tags of a window, at least 1; None for all.
        classes: Names or identifiers of the only classes to use; none selects all.
        events: Whether to write when each class begins and ends.
        off_threshold: Probability below which an event ends; None is the share of the threshold of its class that the
            model has, by default half.
        smoothing_seconds: Length of the median filter over the probabilities, seconds. None is that of the model, by
            default 0, like that of the following three.
        min_seconds: Shortest duration of an event, seconds.
        max_gap_seconds: Longest pause inside an event, seconds.
        refractory_seconds: Shortest time between two events of a class, seconds.
        embeddings: Whether to write the embedding of each window or segment.
        segment_seconds: Length of a segment that gets an embedding, seconds; None is a window of the model.
        channel: What to make of several channels, as in `kerastag.audio.load`.

    Raises:
        ValueError: An argument is out of range.
    """

    threshold: float | None = None
    top: int | None = None
    classes: tuple[str, ...] = ()
    events: bool = False
    off_threshold: float | None = None
    smoothing_seconds: float | None = None
    min_seconds: float | None = None
    max_gap_seconds: float | None = None
    refractory_seconds: float | None = None
    embeddings: bool = False
    segment_seconds: float | None = None
    channel: str | int = "mean"

    def __post_init__(self) -> None:
        check_tag_limits(1 if self.top is None else self.top, 0.0 if self.threshold is None else self.threshold)
        parse_channel(self.channel)
        if self.segment_seconds is not None and not self.embeddings:
            raise ValueError("`segment_seconds` needs `embeddings`, of which it is the length")
        object.__setattr__(self, "classes", tuple(self.classes))

    def with_card_rules(self, card_rules: Mapping[str, float | Sequence[float]]) -> ArchiveSettings:
        """Return the settings with the durations that `event_rules` of a card has in place of those that are None.

        A duration of each class stays None, as it is taken from the card by whoever applies the rules.
        """
        missing = {name: card_rules.get(name, 0.0) for name in DURATIONS if getattr(self, name) is None}
        changes: dict[str, Any] = {name: value for name, value in missing.items() if not np.ndim(value)}
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}


@dataclass(frozen=True)
class Job:
    """What a process needs to write shards of an archive.

    Attributes:
        folder: Folder of the archive.
        base: Folder to which relative paths of the manifest refer.
        model: Path of the model file.
        digest: SHA-256 of the model file.
        settings: Settings of the archive.
        time_limit: Longest time in which a recording must make progress, seconds.
        memory_limit_mb: Memory that a recording may take besides the model, MB.
    """

    folder: str
    base: str
    model: str
    digest: str
    settings: ArchiveSettings
    time_limit: float
    memory_limit_mb: int
