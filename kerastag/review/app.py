"""The application of a review: its page, the present question, and what the page can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response

from kerastag._version import __version__
from kerastag.review.media import describe_part, encode_part
from kerastag.review.session import ReviewSession
from kerastag.serving.app import PageFiles, add_error_handlers
from kerastag.serving.errors import RequestError

__all__ = ["create_app"]

Result = TypeVar("Result")
_PAGE = Path(__file__).with_name("page")


class _AnswerBody(BaseModel):
    """The body of `POST /v1/review/questions/NUMBER/answer`."""

    model_config = ConfigDict(extra="forbid")

    answer: str = Field(max_length=1_000, description="yes, no, skip, or class:NAME of another class.")


def create_app(session: ReviewSession) -> FastAPI:
    """Create the application of a review. Files are named by the number of a question only."""
    app = FastAPI(title="kerastag review", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)

    @app.get("/", include_in_schema=False)
    def get_page() -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/v1/review")
    def describe() -> dict[str, Any]:
        """Describe the present question, the progress and the newest head."""
        return session.describe()

    @app.get("/v1/review/questions/{number}/audio")
    def get_audio(number: int) -> Response:
        """Return what the question is about as a WAV file."""
        content = _translate_errors(
            lambda: encode_part(session.get_part(number), session.card.sample_rate, session.channel)
        )
        return Response(content, media_type="audio/wav", headers={"Cache-Control": "no-store"})

    @app.get("/v1/review/questions/{number}/overview")
    def get_overview(number: int) -> dict[str, Any]:
        """Describe waveform and spectrogram of what the question is about."""
        return _translate_errors(lambda: describe_part(session.get_part(number), session.card, session.channel))

    @app.post("/v1/review/questions/{number}/answer")
    def answer(number: int, body: _AnswerBody) -> dict[str, Any]:
        """Save the answer to the question, and describe what follows."""
        _translate_errors(lambda: session.answer(number, body.answer))
        return session.describe()

    @app.post("/v1/review/undo")
    def undo() -> dict[str, Any]:
        """Remove the last answer, and ask its question again."""
        _translate_errors(session.undo)
        return session.describe()

    @app.post("/v1/review/train")
    def train() -> dict[str, Any]:
        """Begin to train a head on all answers."""
        _translate_errors(session.start_training)
        return session.describe()

    @app.post("/v1/review/write")
    def write() -> dict[str, Any]:
        """Begin to write the newest head into the run."""
        _translate_errors(session.start_writing)
        return session.describe()

    app.mount(
        "/page", PageFiles(directory=_PAGE, packages=[("kerastag.serving", "page"), ("kerastag.bundled", "page")])
    )
    return app


def _translate_errors(function: Callable[[], Result]) -> Result:
    """Call a function, and raise a `RequestError` for its errors."""
    try:
        return function()
    except LookupError as error:
        raise RequestError(409, "conflict", str(error.args[0])) from None
    except ValueError as error:
        raise RequestError(422, "invalid", str(error)) from None
    except OSError as error:
        raise RequestError(500, "failed", str(error)) from None
