"""Recordings that clients send, in memory and never on a disk."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Mapping
from email.message import Message
from types import TracebackType

from kerastag._command import replace_unprintable
from kerastag.serving.errors import RequestError

__all__ = ["MemoryBudget", "Upload", "receive_upload"]

_MAX_NAME_LENGTH = 200
_MAX_PARTS = 20


class MemoryBudget:
    """The bytes that all requests together may hold in memory.

    Args:
        max_bytes: Largest number of bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.used_bytes = 0
        """Number of bytes in memory."""

    def take(self, size: int) -> None:
        """Take a number of bytes, or raise a `RequestError` with status 503."""
        with self._lock:
            if self.used_bytes + size > self._max_bytes:
                raise RequestError(503, "out_of_memory", "other requests hold all of the memory; try again later", 2.0)
            self.used_bytes += size

    def give_back(self, size: int) -> None:
        """Give a number of bytes back."""
        with self._lock:
            self.used_bytes -= size


class Upload:
    """A recording in a file in memory; a context manager that releases it.

    Attributes:
        name: Name of the file at the client; None if it is unknown.
        size: Number of bytes.
        descriptor: Descriptor of the file in memory.
    """

    def __init__(self, budget: MemoryBudget, name: str | None = None) -> None:
        self.name, self.size, self._budget = name, 0, budget
        self.descriptor = os.memfd_create("recording")

    @property
    def display_name(self) -> str:
        """Name in messages, on one line."""
        return "recording" if self.name is None else self.name

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        self._budget.take(len(content))
        self.size += len(content)
        view = memoryview(content)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def close(self) -> None:
        """Release the memory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self._budget.give_back(self.size)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def receive_upload(body: AsyncIterator[bytes], headers: Mapping[str, str], budget: MemoryBudget) -> Upload:
    """Receive a recording that is the whole body of a request, or the first part `file` of a form.

    Args:
        body: Parts of the body.
        headers: Headers of the request, by lower-case name.
        budget: Memory that the recording takes.

    Raises:
        RequestError: There is no recording (422), the form is damaged (400), or there is no memory (503).
    """
    content_type = Message()
    content_type["content-type"] = headers.get("content-type", "application/octet-stream")
    upload = Upload(budget)
    try:
        if content_type.get_content_type() == "multipart/form-data":
            await _receive_form(body, content_type.get_param("boundary"), upload)
        else:
            upload.name = _get_file_name(_parse_disposition(headers.get("content-disposition", "")))
            async for part in body:
                upload.write(part)
        if not upload.size:
            raise RequestError(422, "empty", "the body must be a recording; received: no bytes")
    except BaseException:
        upload.close()
        raise
    return upload


async def _receive_form(body: AsyncIterator[bytes], boundary: object, upload: Upload) -> None:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    parts: list[dict[str, str]] = []
    header = [b"", b""]
    has_ended = [False]

    def begin_part() -> None:
        if len(parts) == _MAX_PARTS:
            raise RequestError(400, "bad_form", f"the form must have at most {_MAX_PARTS} parts; it has more")
        parts.append({})

    def add_name(data: bytes, start: int, end: int) -> None:
        header[0] += data[start:end]

    def add_value(data: bytes, start: int, end: int) -> None:
        header[1] += data[start:end]

    def end_header() -> None:
        parts[-1][header[0].decode("latin-1").lower()] = header[1].decode("utf-8", "replace")
        header[:] = [b"", b""]

    def end_headers() -> None:
        disposition = _parse_disposition(parts[-1].get("content-disposition", ""))
        is_file = disposition.get_param("name", header="content-disposition") == "file"
        if is_file and not any("is_file" in other for other in parts[:-1]):
            parts[-1]["is_file"] = ""
            upload.name = _get_file_name(disposition)

    def add_data(data: bytes, start: int, end: int) -> None:
        if "is_file" in parts[-1]:
            upload.write(memoryview(data)[start:end])

    def end() -> None:
        has_ended[0] = True

    if not isinstance(boundary, str) or not boundary:
        raise RequestError(400, "bad_form", "a form must have a boundary in its content type; received: none")
    try:
        parser = MultipartParser(
            boundary.encode("latin-1"),
            {
                "on_part_begin": begin_part,
                "on_header_field": add_name,
                "on_header_value": add_value,
                "on_header_end": end_header,
                "on_headers_finished": end_headers,
                "on_part_data": add_data,
                "on_end": end,
            },
        )
        async for content in body:
            parser.write(content)
    except (FormParserError, UnicodeEncodeError) as error:
        raise RequestError(400, "bad_form", f"the form is damaged: {error}") from None
    if not has_ended[0]:
        raise RequestError(400, "bad_form", "the form ends before its last boundary")
    if not any("is_file" in part for part in parts):
        raise RequestError(422, "no_file", "the form must have a part `file`; received: none")


def _parse_disposition(text: str) -> Message:
    """Return a message with a `Content-Disposition`."""
    message = Message()
    message["content-disposition"] = " ".join(text.split())
    return message


def _get_file_name(message: Message) -> str | None:
    """Return the last part of the file name in a `Content-Disposition`, without control characters, if there is one."""
    name = message.get_filename()
    if not name:
        return None
    return replace_unprintable(name).replace("\\", "/").rpartition("/")[2][-_MAX_NAME_LENGTH:] or None
