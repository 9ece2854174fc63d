"""The error of a request: its HTTP status, a code for programs and one line for people."""

from __future__ import annotations

__all__ = ["RequestError", "format_error"]


class RequestError(Exception):
    """An error that the client gets as the answer to its request.

    Args:
        status: HTTP status, 400 to 599.
        code: Short name of the kind of error, such as `too_long`.
        message: One line for people.
        retry_after_seconds: Time after which trying again may succeed, seconds; None where it would not help.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, " ".join(message.split())
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, besides its type and length."""
        headers = (
            {} if self.retry_after_seconds is None else {"Retry-After": f"{max(1, round(self.retry_after_seconds))}"}
        )
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def format_error(path: str, error: RequestError) -> dict[str, object]:
    """Format an error as JSON values, in the form of the protocol that a path belongs to."""
    if path.startswith(("/v1/models/", "/v2", "/models/", "/pipeline/")):
        return {"error": error.message}
    return {"error": {"code": error.code, "message": error.message}}
