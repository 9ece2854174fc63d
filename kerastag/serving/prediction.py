"""The raw outputs of a model for clips, which the protocols of other servers return."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job

__all__ = ["convert_clips", "describe_shape", "parse_json_object", "predict_clips"]

_MAX_CLIPS = 256
_CLIPS_PER_CALL = 4
_MAX_AMPLITUDE = 1e6


def parse_json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object, or raise a `RequestError` with status 400."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100] if isinstance(error, ValueError) else "it is nested too deeply"
        raise RequestError(400, "bad_json", f"the body must be JSON: {reason}") from None
    if not isinstance(values, dict):
        raise RequestError(400, "bad_json", f"the body must be a JSON object; received: {type(values).__name__}")
    return values


def describe_shape(model: ServedModel, name: str) -> list[int]:
    """Return the shape of the input or of an output of a model, with -1 for sizes that vary."""
    if name == model.runtime.input:
        front_end = model.card.front_end
        last = [int(front_end["num_mel_bins"])] if name == "log_mel" else []
        return [-1, -1 if model.runtime.length is None else model.runtime.length, *last]
    num_classes = -1 if model.card.labels is None else len(model.card.labels)
    return {"clipwise": [-1, num_classes], "framewise": [-1, -1, num_classes]}.get(name, [-1, -1])


def convert_clips(model: ServedModel, values: object) -> np.ndarray:
    """Convert nested lists, or an array, to a batch of clips that a model takes.

    Args:
        model: Model.
        values: Numbers `(batch, samples)`, or `(batch, frames, mel_bins)` for a model that takes log-mel.

    Raises:
        RequestError: The values have another shape, are not finite, or are longer than the window of the model (400).
    """
    name = model.runtime.input
    shape = describe_shape(model, name)
    allowed = f"numbers of shape {format_shape(shape)}"
    try:
        with np.errstate(all="ignore"):
            clips = np.asarray(values, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise RequestError(400, "bad_input", f"`{name}` must be {allowed}; received: something else") from None
    if clips.ndim != len(shape) or any(
        size not in (-1, actual) for size, actual in zip(shape, clips.shape, strict=True)
    ):
        raise RequestError(400, "bad_input", f"`{name}` must be {allowed}; received: shape {format_shape(clips.shape)}")
    if not clips.size or len(clips) > _MAX_CLIPS:
        raise RequestError(400, "bad_input", f"`{name}` must be 1 to {_MAX_CLIPS} clips; received: {len(clips)}")
    longest = _count_longest(model)
    if clips.shape[1] > longest:
        message = f"`{name}` must have at most {longest} values, the window of {model.name}, per clip"
        raise RequestError(400, "bad_input", f"{message}; received: {clips.shape[1]} (`/v1/tag` takes any length)")
    if not np.abs(clips).max() <= _MAX_AMPLITUDE:
        raise RequestError(400, "bad_input", f"`{name}` must be finite numbers; received: others")
    return clips


def predict_clips(model: ServedModel, clips: np.ndarray, job: Job) -> dict[str, np.ndarray]:
    """Predict the outputs for clips by name, one row per clip; a clip that is too short is an error of status 400."""
    parts = []
    for first in range(0, len(clips), _CLIPS_PER_CALL):
        job.check()
        try:
            parts.append(model.runtime(clips[first : first + _CLIPS_PER_CALL]))
        except Exception as error:  # of a framework, which has classes of its own
            message = f"{model.name} cannot process clips of shape {format_shape(clips.shape[1:])}"
            raise RequestError(400, "bad_input", f"{message}, which may be too short") from error
    return {name: np.concatenate([part[name] for part in parts]) for name in model.runtime.outputs}


def format_shape(shape: Any) -> str:
    """Format a shape for a message."""
    return f"({', '.join(str(size) if size >= 0 else 'any' for size in shape)})"


def _count_longest(model: ServedModel) -> int:
    """Return the number of samples or log-mel frames of the longest clip."""
    if model.runtime.length is not None:
        return model.runtime.length
    samples = round(model.card.window_seconds * model.card.sample_rate)
    if model.runtime.input == "waveform":
        return samples
    from kerastag.dsp import FrontEnd

    return FrontEnd.from_dict(dict(model.card.front_end)).count_frames(samples)
