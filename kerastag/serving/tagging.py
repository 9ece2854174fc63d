"""Tagging an uploaded recording: the answer of `POST /v1/tag`, and the tags of other protocols."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.serving.decoding import DecoderPool
from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.overview import OverviewBuilder
from kerastag.serving.uploads import Upload
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.results import Tag, check_tag_limits
from kerastag.tagger.tagged_recording import RecordingTagger

__all__ = ["TagOptions", "load_clip", "predict_tags", "tag_recording"]

MAX_OVERVIEW_COLUMNS = 8_192
_MAX_TIMELINE_VALUES = 2_000_000


@dataclasses.dataclass(frozen=True)
class TagOptions:
    """Options of a request, with the names and the meaning of the flags of `kerastag tag`.

    Args:
        top: Largest number of tags, at least 1.
        threshold: Least probability of a tag, and probability at which an event begins, in [0, 1].
        thresholds: `"card"` takes the thresholds of the model for tags too.
        classes: Names or identifiers of the only classes to use.
        events: Whether to return when each class begins and ends.
        timeline: Whether to return the probabilities of the tags over time.
        pooling: Pooling over the windows of a long recording.
        channel: What to make of several channels.
        off_threshold: Probability below which an event ends.
        smoothing_seconds: Length of the median filter over the probabilities, seconds. None is that of the model, by
            default 0, like that of the following three.
        min_seconds: Shortest duration of an event, seconds.
        max_gap_seconds: Longest pause inside an event, seconds.
        refractory_seconds: Shortest time between two events of a class, seconds.
        overview: Largest number of columns of an overview; 0 for none.
    """

    top: int = 5
    threshold: float | None = None
    thresholds: str | None = None
    classes: Sequence[str] = ()
    events: bool = False
    timeline: bool = False
    pooling: str = "max"
    channel: str | int = "mean"
    off_threshold: float | None = None
    smoothing_seconds: float | None = None
    min_seconds: float | None = None
    max_gap_seconds: float | None = None
    refractory_seconds: float | None = None
    overview: int = 0

    def create_tagger(self, model: ServedModel) -> RecordingTagger:
        """Create the tagger of recordings with these options; an option out of range is an error of status 422."""
        try:
            check_tag_limits(self.top, 0.0 if self.threshold is None else self.threshold)
            parse_channel(self.channel)
            if self.threshold is not None and self.thresholds is not None:
                raise ValueError("`thresholds` must not be given with `threshold`")
            if self.events or self.timeline:
                _ = model.tagger.seconds_per_frame  # raises where there are no output frames
            return RecordingTagger(
                model.tagger,
                top=self.top,
                threshold=self.threshold,
                use_card_thresholds=self.thresholds == "card",
                classes=tuple(self.classes),
                pooling=self.pooling,
                channel=self.channel,
                off_threshold=self.off_threshold,
                smoothing_seconds=self.smoothing_seconds,
                min_seconds=self.min_seconds,
                max_gap_seconds=self.max_gap_seconds,
                refractory_seconds=self.refractory_seconds,
            )
        except ValueError as error:
            raise RequestError(422, "invalid_parameter", str(error).replace("`name_or_mid`", "`classes`")) from None


def tag_recording(
    model: ServedModel,
    tagger: RecordingTagger,
    upload: Upload,
    options: TagOptions,
    decoders: DecoderPool,
    job: Job,
) -> tuple[str, float]:
    """Tag a recording with the code of `kerastag tag`.

    Args:
        model: Model.
        tagger: Tagger that `options.create_tagger` has created for the model.
        upload: Recording.
        options: Options of the request.
        decoders: Processes that decode the recording.
        job: Job whose time limit holds.

    Returns:
        The JSON object of `kerastag tag --format json` for one recording, with the model, and the duration in seconds.

    Raises:
        RequestError: The recording cannot be tagged, or an option is out of range.
    """
    card = model.card
    builder = OverviewBuilder(card, options.overview) if options.overview else None
    with decoders.decode(upload, card.sample_rate, options.channel, job) as decoded:
        recording = tagger.process(
            decoded.blocks if builder is None else builder.tap(decoded.blocks),
            upload.display_name,
            started_at=decoded.started_at,
            events=options.events,
            timeline=options.timeline,
        )
    values: dict[str, Any] = {"model": model.name, "version": str(model.version), "sample_rate": card.sample_rate}
    if recording.frames is not None:
        num_values = recording.frames.num_frames * max(1, len(recording.tags))
        if num_values > _MAX_TIMELINE_VALUES:
            allowed = f"`timeline` must have at most {_MAX_TIMELINE_VALUES} probabilities"
            raise RequestError(422, "invalid_parameter", f"{allowed}, which a lower `top` has; received: {num_values}")
    if builder is not None:
        values["overview"] = builder.build()
    if decoded.warnings:
        values["warnings"] = decoded.warnings
    job.check()
    text = "".join(FORMATS["json"].format(recording, card.sample_rate / 2, True))
    if upload.name is None:  # The object begins with the name.
        text = '{"file": null' + text.removeprefix(json.dumps({"file": upload.display_name})[:-1])
    return f"{text[:-1]}, {json.dumps(values, ensure_ascii=False)[1:]}", recording.duration_seconds


def predict_tags(model: ServedModel, upload: Upload, top: int, decoders: DecoderPool, job: Job) -> list[Tag]:
    """Return the most probable tags of a recording; the errors are those of `tag_recording`."""
    tagger = TagOptions(top=top).create_tagger(model)
    with decoders.decode(upload, model.card.sample_rate, "mean", job) as decoded:
        return tagger.process(decoded.blocks, upload.display_name).tags


def load_clip(model: ServedModel, upload: Upload, decoders: DecoderPool, job: Job) -> np.ndarray:
    """Load a recording as one clip `(samples,)`, padded with zeros to the window of the model.

    Raises:
        RequestError: The recording cannot be decoded, or is longer than the window (422).
    """
    length = round(model.window_seconds * model.card.sample_rate)
    clip, position = np.zeros(length, np.float32), 0
    with decoders.decode(upload, model.card.sample_rate, "mean", job) as decoded:
        for block in decoded.blocks:
            if position + len(block) > length + model.card.sample_rate // 100:
                allowed = f"must be at most {model.window_seconds:g} s long, the window of {model.name}"
                raise RequestError(422, "too_long", f"{upload.display_name}: {allowed}; it is longer")
            block = block[: length - position]
            clip[position : position + len(block)] = block
            position += len(block)
    return clip
