"""The Open Inference Protocol, version 2, of KServe and Triton, with its extension for binary tensors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import Response

from kerastag._version import __version__
from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.prediction import convert_clips, describe_shape, parse_json_object, predict_clips
from kerastag.serving.server_state import ServerState

__all__ = ["add_routes"]

_HEADER = "Inference-Header-Content-Length"
_TYPE = "FP32"
_MAX_TEXT_LENGTH, _MAX_HEADER_BYTES = 1_000, 1 << 20
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array"},
    },
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body or an input is malformed."},
    404: {"description": "There is no such model or version."},
    413: {"description": "The body is too large."},
    429: {"description": "Too many requests wait."},
    503: {"description": "The server is starting or ending."},
    504: {"description": "The request takes too long."},
}
_READ_ERRORS: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (404, 503)}


def add_routes(app: FastAPI, state: ServerState) -> None:
    """Add the routes of the protocol: health, metadata and inference."""

    async def infer(request: Request, model: ServedModel) -> Response:
        header = request.headers.get(_HEADER)
        async with state.receive_json(request, is_binary=header is not None) as content:
            return await state.run_job(request, lambda job: _infer(model, content, header, job))

    @app.get("/v2")
    async def get_server_metadata() -> dict[str, Any]:
        """Return name, version and extensions of the server."""
        return {"name": "kerastag", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def check_live() -> dict[str, bool]:
        """Answer as long as the process lives."""
        return {"live": True}

    @app.get("/v2/health/ready", responses={503: _ERRORS[503]})
    async def check_ready() -> dict[str, bool]:
        """Answer with status 200 as soon as all models are loaded."""
        state.models.get()
        return {"ready": True}

    @app.get("/v2/models/{name}", responses=_READ_ERRORS)
    async def get_metadata(name: str) -> dict[str, Any]:
        """Return the inputs and outputs of the newest version of a model."""
        return _describe(state.models.get(name), state.models.get_versions(name))

    @app.get("/v2/models/{name}/versions/{version}", responses=_READ_ERRORS)
    async def get_version_metadata(name: str, version: str) -> dict[str, Any]:
        """Return the inputs and outputs of a version of a model."""
        model = state.models.get(name, version=_parse_version(version))
        return _describe(model, state.models.get_versions(name))

    @app.get("/v2/models/{name}/ready", responses=_READ_ERRORS)
    async def check_model(name: str) -> dict[str, Any]:
        """Answer with status 200 if a model is loaded."""
        return {"name": state.models.get(name).name, "ready": True}

    @app.get("/v2/models/{name}/versions/{version}/ready", responses=_READ_ERRORS)
    async def check_version(name: str, version: str) -> dict[str, Any]:
        """Answer with status 200 if a version of a model is loaded."""
        return {"name": state.models.get(name, version=_parse_version(version)).name, "ready": True}

    @app.post("/v2/models/{name}/infer", openapi_extra=_BODY, responses=_ERRORS, response_class=Response)
    async def infer_newest(request: Request, name: str) -> Response:
        """Predict with the newest version of a model."""
        return await infer(request, state.models.get(name))

    @app.post(
        "/v2/models/{name}/versions/{version}/infer", openapi_extra=_BODY, responses=_ERRORS, response_class=Response
    )
    async def infer_version(request: Request, name: str, version: str) -> Response:
        """Predict with a version of a model."""
        return await infer(request, state.models.get(name, version=_parse_version(version)))


def _parse_version(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise RequestError(404, "unknown_version", f"the version must be a number; received: {text[:100]!r}")
    return int(text)


def _describe(model: ServedModel, versions: list[ServedModel]) -> dict[str, Any]:
    def describe(name: str) -> dict[str, Any]:
        return {"name": name, "datatype": _TYPE, "shape": describe_shape(model, name)}

    return {
        "name": model.name,
        "versions": [str(each.version) for each in versions],
        "platform": "kerastag",
        "inputs": [describe(model.runtime.input)],
        "outputs": [describe(name) for name in model.runtime.outputs],
    }


def _infer(model: ServedModel, content: bytes, header: str | None, job: Job) -> Response:
    """Return the answer to the body of a request."""
    text, binary = _split_body(content, header)
    values = parse_json_object(text)
    clips = convert_clips(model, _read_input(model, values.get("inputs"), binary))
    requested = _select_outputs(model, values)
    outputs = predict_clips(model, clips, job)
    described, tensors = [], []
    for name, is_binary in requested.items():
        tensor = np.ascontiguousarray(outputs[name], "<f4")
        description: dict[str, Any] = {"name": name, "datatype": _TYPE, "shape": list(tensor.shape)}
        if is_binary:
            description["parameters"] = {"binary_data_size": tensor.nbytes}
            tensors.append(tensor.tobytes())
        else:
            description["data"] = tensor.ravel().tolist()
        described.append(description)
    answer: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version), "outputs": described}
    if "id" in values:
        answer["id"] = str(values["id"])[:_MAX_TEXT_LENGTH]
    encoded = json.dumps(answer).encode()
    if not tensors:
        return Response(encoded, media_type="application/json")
    headers = {_HEADER: str(len(encoded))}
    return Response(b"".join([encoded, *tensors]), media_type="application/octet-stream", headers=headers)


def _split_body(content: bytes, header: str | None) -> tuple[bytes, bytes]:
    """Return the JSON of a body, and the tensors behind it."""
    if header is None:
        return content, b""
    size = int(header) if header.isascii() and header.isdecimal() and len(header) < 16 else -1
    if not 0 <= size <= min(len(content), _MAX_HEADER_BYTES):
        allowed = f"at most {_MAX_HEADER_BYTES} and the length of the body, {len(content)}"
        raise RequestError(400, "bad_input", f"`{_HEADER}` must be {allowed}; received: {header[:100]!r}")
    return content[:size], content[size:]


def _read_input(model: ServedModel, inputs: Any, binary: bytes) -> np.ndarray:
    """Return the only input, of its shape."""
    name = model.runtime.input
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, "bad_input", f"`inputs` must be a list of one tensor, `{name}`; it is not")
    tensor = inputs[0]
    if tensor.get("name") != name or tensor.get("datatype") != _TYPE:
        received = f"{str(tensor.get('name'))[:50]} of {str(tensor.get('datatype'))[:50]}"
        raise RequestError(400, "bad_input", f"the input must be `{name}` of {_TYPE}; received: {received}")
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 4
        or any(isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**31 for size in shape)
    ):
        raise RequestError(400, "bad_input", "`shape` must be a list of up to four sizes; it is not")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if size != len(binary) or len(binary) % 4:
            raise RequestError(
                400, "bad_input", f"`binary_data_size` must be {len(binary)}, a multiple of 4; it is not"
            )
        values = np.frombuffer(binary, "<f4")
    else:
        try:
            values = np.asarray(tensor.get("data"), np.float32).ravel()
        except (ValueError, TypeError, OverflowError):
            raise RequestError(400, "bad_input", "`data` must be numbers; received: something else") from None
    if values.size != math.prod(shape):
        expected = f"as many numbers as `shape`, {shape}, has"
        raise RequestError(400, "bad_input", f"`data` must be {expected}; received: {values.size}")
    return values.reshape(shape)


def _select_outputs(model: ServedModel, values: dict[str, Any]) -> dict[str, bool]:
    """Return the names of the requested outputs, and whether each is to be binary."""
    parameters = values.get("parameters")
    is_binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    outputs = values.get("outputs") or [{"name": name} for name in model.runtime.outputs]
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise RequestError(400, "bad_input", "`outputs` must be a list of objects; it is not")
    selected = {}
    for output in outputs:
        if output.get("name") not in model.runtime.outputs:
            allowed, received = ", ".join(model.runtime.outputs), str(output.get("name"))[:100]
            raise RequestError(
                400, "bad_input", f"the name of an output must be one of {allowed}; received: {received!r}"
            )
        own = output.get("parameters")
        selected[output["name"]] = bool(own.get("binary_data", is_binary)) if isinstance(own, dict) else is_binary
    return selected
