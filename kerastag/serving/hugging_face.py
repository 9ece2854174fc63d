"""The protocol of audio classification of Hugging Face."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.prediction import parse_json_object
from kerastag.serving.server_state import ServerState
from kerastag.serving.tagging import predict_tags
from kerastag.serving.tensorflow_serving import decode_base64
from kerastag.serving.uploads import Upload

__all__ = ["add_routes"]

_DEFAULT_TOP = 5
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PARAMETERS = {"type": "object", "properties": {"top_k": {"type": "integer", "minimum": 1}}}
_JSON = {
    "schema": {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": {"type": "string", "format": "byte"}, "parameters": _PARAMETERS},
    }
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": _BINARY, "audio/*": _BINARY, "application/json": _JSON},
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is malformed."},
    404: {"description": "There is no such model."},
    413: {"description": "The body is too large, or the recording too long."},
    415: {"description": "The body is not audio."},
    422: {"description": "The recording is damaged."},
    429: {"description": "Too many requests wait."},
    503: {"description": "The server is starting or ending."},
    504: {"description": "The request takes too long."},
}


def add_routes(app: FastAPI, state: ServerState) -> None:
    """Add the routes of the protocol: the addresses of the Inference API, and the one that clients of it use."""

    @app.post("/models/{name}", openapi_extra=_BODY, responses=_ERRORS)
    @app.post("/pipeline/audio-classification/{name}", openapi_extra=_BODY, responses=_ERRORS)
    async def classify(request: Request, name: str) -> list[dict[str, Any]]:
        """Return the most probable classes of a recording, in bytes or in base64."""
        model = state.models.get(name)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return await state.run_upload(
                request, lambda upload, job: _classify(model, upload, _DEFAULT_TOP, state, job)
            )
        async with state.receive_json(request) as content:
            return await state.run_job(request, lambda job: _classify_json(model, content, state, job))


def _classify_json(model: ServedModel, content: bytes, state: ServerState, job: Job) -> list[dict[str, Any]]:
    values = parse_json_object(content)
    parameters = values.get("parameters")
    top = parameters.get("top_k") if isinstance(parameters, dict) else None
    top = _DEFAULT_TOP if top is None else top
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise RequestError(
            422, "invalid_parameter", f"`top_k` must be an integer of at least 1; received: {str(top)[:100]}"
        )
    with Upload(state.budget) as upload:
        upload.write(decode_base64(values.get("inputs")))
        return _classify(model, upload, top, state, job)


def _classify(model: ServedModel, upload: Upload, top: int, state: ServerState, job: Job) -> list[dict[str, Any]]:
    tags = predict_tags(model, upload, top, state.decoders, job)
    return [{"label": tag.name, "score": tag.probability} for tag in tags]
