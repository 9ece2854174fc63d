"""The application of a server: its own routes, and those of the protocols of other servers."""

from __future__ import annotations

import functools
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from kerastag._version import __version__
from kerastag.serving import hugging_face, open_inference, tensorflow_serving
from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError, format_error
from kerastag.serving.metrics import METRICS_TYPE
from kerastag.serving.server_state import ServerState
from kerastag.serving.streams import serve_stream
from kerastag.serving.tagging import MAX_OVERVIEW_COLUMNS, TagOptions, tag_recording
from kerastag.tagger.tagged_recording import RecordingTagger

__all__ = ["PageFiles", "add_error_handlers", "create_app"]

_NUM_QUERIES, _MAX_KEPT_QUERY = 16, 512
"""Number of queries that are kept with their taggers, and their largest length."""
_PAGE = Path(__file__).with_name("page")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY["schema"]}}}
_AUDIO_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": _BINARY, "audio/*": _BINARY, "multipart/form-data": _FORM},
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is malformed."},
    401: {"description": "The token is missing or wrong."},
    403: {"description": "The request comes from a page on another site."},
    404: {"description": "There is no such model."},
    408: {"description": "The body arrives too slowly."},
    413: {"description": "The body is too large, or the recording too long."},
    415: {"description": "The body is not audio."},
    422: {"description": "A parameter is out of range, or the recording is damaged."},
    429: {"description": "Too many requests wait; `Retry-After` has the time to wait."},
    503: {"description": "The server is starting, ending, or out of memory; `Retry-After` has the time to wait."},
    504: {"description": "The request takes too long."},
}


class _TagQuery(BaseModel):
    """The query of `POST /v1/tag`; each parameter means what the flag of `kerastag tag` does."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of the model; by default the first.")
    version: int | None = Field(None, ge=1, description="Number of its version; by default the newest.")
    top: int = Field(5, ge=1, le=100_000, description="Largest number of tags.")
    threshold: float | None = Field(None, ge=0, le=1, description="Least probability of a tag, and onset of events.")
    thresholds: Literal["card"] | None = Field(None, description="Use the thresholds of the model.")
    classes: list[str] = Field([], description="Names or identifiers of the only classes to use.")
    events: bool = Field(False, description="Return when each class begins and ends.")
    timeline: bool = Field(False, description="Return the probabilities of the tags over time.")
    pooling: Literal["max", "mean"] = Field("max", description="Pooling over the windows of a long recording.")
    channel: str = Field("mean", max_length=20, description="mean, left, right, loudest, or a number from 1.")
    off_threshold: float | None = Field(None, ge=0, le=1, description="Probability at which an event ends.")
    smoothing_seconds: float | None = Field(None, ge=0, le=60, description="Length of the median filter, seconds.")
    min_seconds: float | None = Field(None, ge=0, le=86_400, description="Length of the shortest event, seconds.")
    max_gap_seconds: float | None = Field(None, ge=0, le=86_400, description="Longest pause within an event, seconds.")
    refractory_seconds: float | None = Field(
        None, ge=0, le=86_400, description="Shortest time between events, seconds."
    )
    overview: int = Field(0, ge=0, le=MAX_OVERVIEW_COLUMNS, description="Largest number of columns of an overview.")


def _parse_query(query: str) -> dict[str, Any]:
    """Parse the query of `POST /v1/tag`, or raise a `RequestValidationError`."""
    parameters = QueryParams(query)
    values = {name: parameters.getlist(name) if name == "classes" else parameters[name] for name in parameters}
    try:
        return _TagQuery.model_validate(values).model_dump()
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _describe_query() -> list[dict[str, Any]]:
    """Describe the query of `POST /v1/tag` for OpenAPI."""
    properties = _TagQuery.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in properties.items()
    ]


_TAG_REQUEST = {"parameters": _describe_query(), **_AUDIO_BODY}


class PageFiles(StaticFiles):
    """The files of the page; a browser asks for newer ones each time, as modules of two versions do not fit."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Application(FastAPI):
    """An application whose busiest routes are called without the layers of FastAPI, which take 0.4 ms a request.

    Attributes:
        direct_routes: These routes, by method and path. Their functions take a request and return a response; errors
            have the usual handlers.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.direct_routes: dict[tuple[str, str], APIRoute] = {}

    def add_direct_route(self, method: str, path: str) -> None:
        """Call a route that has been added without the layers of FastAPI."""
        routes = (route for route in self.routes if isinstance(route, APIRoute) and method in (route.methods or ()))
        self.direct_routes[method, path] = next(route for route in routes if route.path == path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.direct_routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            await super().__call__(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            handler = self.exception_handlers.get(type(error))
            answer: Any = handler or self.exception_handlers[Exception]
            response = await answer(request, error)
            if handler is None:  # a fault of the server, which is also logged
                await response(scope, receive, send)
                raise
        await response(scope, receive, send)


def create_app(state: ServerState) -> FastAPI:
    """Create the application of a server."""
    description = "Audio tagging."
    app = _Application(title="kerastag", version=__version__, description=description, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    _add_routes(app, state)
    tensorflow_serving.add_routes(app, state)
    open_inference.add_routes(app, state)
    hugging_face.add_routes(app, state)
    app.mount("/page", PageFiles(directory=_PAGE, packages=[("kerastag.bundled", "page")]), name="page")
    return app


def _add_routes(app: _Application, state: ServerState) -> None:
    def prepare(query: str) -> tuple[ServedModel, TagOptions, RecordingTagger]:
        values = _parse_query(query)
        model = state.models.get(values.pop("model"), version=values.pop("version"))
        options = TagOptions(**values)
        return model, options, options.create_tagger(model)

    # Most clients send the same query again and again.
    prepare_again = functools.lru_cache(_NUM_QUERIES)(prepare)

    @app.post("/v1/tag", openapi_extra=_TAG_REQUEST, responses=_ERRORS, response_class=Response)
    async def tag(request: Request) -> Response:
        """Tag a recording: the body, or the part `file` of a form."""
        query = request.url.query
        # raises before the recording is received
        model, options, tagger = (prepare_again if len(query) <= _MAX_KEPT_QUERY else prepare)(query)
        text, seconds = await state.run_upload(
            request, lambda upload, job: tag_recording(model, tagger, upload, options, state.decoders, job)
        )
        state.metrics.add_audio(model.name, seconds)
        return Response(text, media_type="application/json")

    app.add_direct_route("POST", "/v1/tag")

    @app.get("/v1/models", responses={401: _ERRORS[401], 403: _ERRORS[403], 503: _ERRORS[503]})
    async def list_models() -> dict[str, Any]:
        """List the models and their classes."""
        state.models.get()  # raises while models are loaded
        return {"models": [model.describe() for model in state.models.list_models()]}

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await serve_stream(websocket, state)

    @app.get("/healthz")
    async def check_health() -> dict[str, str]:
        """Answer as long as the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: _ERRORS[503]})
    async def check_readiness() -> dict[str, str]:
        """Answer with status 200 as soon as the models are loaded, and until the server ends."""
        if state.draining.is_set():
            raise RequestError(503, "shutting_down", "the server is shutting down", 5.0)
        state.models.get()
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def get_metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(state.metrics.format(), media_type=METRICS_TYPE)

    @app.get("/", include_in_schema=False)
    async def get_page() -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})


def add_error_handlers(app: FastAPI) -> None:
    """Answer errors of requests as JSON."""

    def answer(request: Request, error: RequestError) -> Response:
        return JSONResponse(format_error(request.url.path, error), error.status, error.headers)

    @app.exception_handler(RequestError)
    async def handle_request_error(request: Request, error: RequestError) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def handle_validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = first["loc"][-1]
        received = repr(first.get("input"))[:100]
        message = f"`{str(name)[:100]}`: {first['msg'][:1].lower()}{first['msg'][1:]}; received: {received}"
        return answer(request, RequestError(422, "invalid_parameter", message))

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "unknown_path", 405: "unknown_method"}.get(error.status_code, "bad_request")
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        answered = answer(request, RequestError(error.status_code, code, message))
        answered.headers.update(error.headers or {})
        return answered

    @app.exception_handler(ClientDisconnect)
    async def handle_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return answer(request, RequestError(499, "client_closed_request", "the client has closed the connection"))

    @app.exception_handler(Exception)
    async def handle_error(request: Request, error: Exception) -> Response:
        return answer(request, RequestError(500, "internal_error", "the server has failed; its log has the reason"))
