"""The REST protocol of TensorFlow Serving."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import Response

from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.prediction import convert_clips, describe_shape, parse_json_object, predict_clips
from kerastag.serving.server_state import ServerState
from kerastag.serving.tagging import load_clip
from kerastag.serving.uploads import Upload

__all__ = ["add_routes"]

_DEFAULT_SIGNATURE, _BYTES_SIGNATURE = "serving_default", "wav_bytes"
_MAX_VERSION_DIGITS = 18
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"signature_name": {"type": "string"}, "instances": {"type": "array"}, "inputs": {}},
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body or an input is malformed."},
    404: {"description": "There is no such model or version."},
    413: {"description": "The body is too large."},
    415: {"description": "A recording is not audio."},
    422: {"description": "A recording is damaged or too long."},
    429: {"description": "Too many requests wait."},
    503: {"description": "The server is starting or ending."},
    504: {"description": "The request takes too long."},
}
_READ_ERRORS: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (404, 503)}


def add_routes(app: FastAPI, state: ServerState) -> None:
    """Add the routes of the protocol: prediction, status and metadata of models."""

    async def predict(request: Request, model: ServedModel) -> Response:
        async with state.receive_json(request) as content:
            text = await state.run_job(request, lambda job: _predict(model, content, state, job))
        return Response(text, media_type="application/json")

    @app.post("/v1/models/{name}:predict", openapi_extra=_BODY, responses=_ERRORS, response_class=Response)
    async def predict_newest(request: Request, name: str) -> Response:
        """Predict with the newest version of a model."""
        return await predict(request, state.models.get(name))

    @app.post(
        "/v1/models/{name}/versions/{version}:predict", openapi_extra=_BODY, responses=_ERRORS, response_class=Response
    )
    async def predict_version(request: Request, name: str, version: str) -> Response:
        """Predict with a version of a model."""
        return await predict(request, state.models.get(name, version=_parse_version(version)))

    @app.post(
        "/v1/models/{name}/labels/{label}:predict", openapi_extra=_BODY, responses=_ERRORS, response_class=Response
    )
    async def predict_label(request: Request, name: str, label: str) -> Response:
        """Predict with the version of a model that has a label."""
        return await predict(request, state.models.get(name, label=label))

    @app.get("/v1/models/{name}/metadata", responses=_READ_ERRORS)
    async def get_metadata(name: str) -> dict[str, Any]:
        """Return the signatures of the newest version of a model."""
        return _describe_signatures(state.models.get(name))

    @app.get("/v1/models/{name}/versions/{version}/metadata", responses=_READ_ERRORS)
    async def get_version_metadata(name: str, version: str) -> dict[str, Any]:
        """Return the signatures of a version of a model."""
        return _describe_signatures(state.models.get(name, version=_parse_version(version)))

    @app.get("/v1/models/{name}/labels/{label}/metadata", responses=_READ_ERRORS)
    async def get_label_metadata(name: str, label: str) -> dict[str, Any]:
        """Return the signatures of the version of a model that has a label."""
        return _describe_signatures(state.models.get(name, label=label))

    @app.get("/v1/models/{name}", responses=_READ_ERRORS)
    async def get_status(name: str) -> dict[str, Any]:
        """Return the status of all versions of a model."""
        return _describe_status(state.models.get_versions(name))

    @app.get("/v1/models/{name}/versions/{version}", responses=_READ_ERRORS)
    async def get_version_status(name: str, version: str) -> dict[str, Any]:
        """Return the status of a version of a model."""
        return _describe_status([state.models.get(name, version=_parse_version(version))])

    @app.get("/v1/models/{name}/labels/{label}", responses=_READ_ERRORS)
    async def get_label_status(name: str, label: str) -> dict[str, Any]:
        """Return the status of the version of a model that has a label."""
        return _describe_status([state.models.get(name, label=label)])


def _parse_version(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_VERSION_DIGITS:
        raise RequestError(404, "unknown_version", f"the version must be a number; received: {text[:100]!r}")
    return int(text)


def _predict(model: ServedModel, content: bytes, state: ServerState, job: Job) -> str:
    """Return the answer to the body of a request, as JSON."""
    values = parse_json_object(content)
    names = {"instances", "inputs"} & values.keys()
    if len(names) != 1:
        raise RequestError(400, "bad_input", "the body must have either `instances` or `inputs`; it has not")
    is_row_format = "instances" in names
    signature = values.get("signature_name") or _DEFAULT_SIGNATURE
    signatures = _list_signatures(model)
    if not isinstance(signature, str) or signature not in signatures:
        allowed = ", ".join(signatures)
        raise RequestError(
            400, "bad_input", f"`signature_name` must be one of {allowed}; received: {str(signature)[:100]!r}"
        )
    input_name = signatures[signature]
    tensor = (
        _get_instances(values["instances"], input_name) if is_row_format else _get_inputs(values["inputs"], input_name)
    )
    clips = _decode_clips(model, tensor, state, job) if signature == _BYTES_SIGNATURE else convert_clips(model, tensor)
    outputs = {name: rows.tolist() for name, rows in predict_clips(model, clips, job).items()}
    job.check()
    if is_row_format:
        # A single output has no name.
        rows = (
            next(iter(outputs.values()))
            if len(outputs) == 1
            else [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        )
        return json.dumps({"predictions": rows})
    return json.dumps({"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs})


def _list_signatures(model: ServedModel) -> dict[str, str]:
    """Return the name of the input of each signature: those of a SavedModel of `kerastag export`."""
    signatures = {_DEFAULT_SIGNATURE: model.runtime.input, model.runtime.input: model.runtime.input}
    return signatures | ({_BYTES_SIGNATURE: _BYTES_SIGNATURE} if model.runtime.input == "waveform" else {})


def _get_instances(instances: object, name: str) -> list[Any]:
    """Return the values of the input of all instances, each of which may be an object with its name."""
    if not isinstance(instances, list) or not instances:
        raise RequestError(400, "bad_input", "`instances` must be a list with at least one item; it is not")
    return [_get_value(instance, name) for instance in instances]


def _get_inputs(inputs: object, name: str) -> object:
    """Return the batch of an input; a single recording counts as a batch of one, as in TensorFlow Serving."""
    values = _get_value(inputs, name)
    return [values] if isinstance(values, dict) else values


def _get_value(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or value.keys() == {"b64"}:
        return value
    if value.keys() != {name}:
        received = ", ".join(map(str, value))[:100] or "none"
        raise RequestError(400, "bad_input", f"the input must be `{name}`; received: {received}")
    return value[name]


def _decode_clips(model: ServedModel, tensor: Any, state: ServerState, job: Job) -> np.ndarray:
    """Decode recordings in base64 to clips of one window."""
    if not isinstance(tensor, list):
        raise RequestError(400, "bad_input", f"`{_BYTES_SIGNATURE}` must be a list of recordings; it is not")
    if len(tensor) > 64:
        raise RequestError(
            400, "bad_input", f"`{_BYTES_SIGNATURE}` must be at most 64 recordings; received: {len(tensor)}"
        )
    clips = []
    for item in tensor:
        with Upload(state.budget) as upload:
            upload.write(decode_base64(item.get("b64") if isinstance(item, dict) else item))
            clips.append(load_clip(model, upload, state.decoders, job))
    return convert_clips(model, np.stack(clips)) if clips else convert_clips(model, [])


def decode_base64(text: object) -> bytes:
    """Decode a text in base64, or raise a `RequestError` with status 400."""
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, "bad_input", "a recording must be base64; it is not") from None


def _describe_status(models: list[ServedModel]) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    versions = [{"version": str(model.version), "state": "AVAILABLE", "status": status} for model in models]
    return {"model_version_status": versions}


def _describe_signatures(model: ServedModel) -> dict[str, Any]:
    outputs = {name: _describe_tensor(describe_shape(model, name), name) for name in model.runtime.outputs}
    signatures = {}
    for signature, name in _list_signatures(model).items():
        is_bytes = signature == _BYTES_SIGNATURE
        shape, data_type = ([-1], "DT_STRING") if is_bytes else (describe_shape(model, name), "DT_FLOAT")
        signatures[signature] = {
            "inputs": {name: _describe_tensor(shape, name, data_type)},
            "outputs": outputs,
            "method_name": "tensorflow/serving/predict",
        }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _describe_tensor(shape: list[int], name: str, data_type: str = "DT_FLOAT") -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": data_type, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}
