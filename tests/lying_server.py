"""A local web server that serves a file whole, truncated, slowly, with false headers, or another file."""

import gzip
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = b"".join(b"%06d,the content of a CSV file\n" % line for line in range(20_000))
LOGIN_PAGE = b"<html><body>Log in to this hotel</body></html>"

BEHAVIORS = (
    "normal",
    "redirect",
    "busy",
    "missing",
    "no content",
    "redirect loop",
    "redirect to a local file",
    "login page",
    "login page for the rest",
    "empty",
    "short",
    "compressed",
    "truncate",
    "truncate without etag",
    "truncate without length",
    "truncate chunks",
    "reset",
    "stall",
    "length is text",
    "length is huge",
    "endless",
    "no resume",
    "part of the beginning",
    "part without range",
    "part of another version",
    "part with another total",
    "part that was not asked for",
    "range not satisfiable",
)


class LyingServer(ThreadingHTTPServer):
    """A server that sends `body` according to its `behavior`, and stores the headers of the requests.

    Behaviors that concern a resumption truncate the first answer.
    """

    daemon_threads = True

    def __init__(self, behavior: str = "normal", body: bytes = BODY) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behavior, self.body, self.etag = behavior, body, '"one"'
        self.requests: list[dict[str, str]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder"

    def __enter__(self) -> "LyingServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore that a client closes the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: LyingServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, behavior = self.server, self.server.behavior
        server.requests.append(dict(self.headers))
        body, start, headers = server.body, 0, {}
        requested = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        is_resumed = bool(requested) and self.headers.get("If-Range") == server.etag
        is_first = len(server.requests) == 1
        if behavior == "missing":
            return self.send_error(404)
        if behavior == "busy" and len(server.requests) < 3:
            return self.send_error(503)
        if behavior == "range not satisfiable" and is_resumed:
            return self.send_error(416)
        if behavior in ("redirect", "redirect loop", "redirect to a local file"):
            name = self.path.rsplit("/", 1)[1]
            if behavior != "redirect" or self.path.startswith("/folder"):
                targets = {"redirect": f"/elsewhere/{name}", "redirect to a local file": "file:///etc/passwd"}
                return self._send(302, b"", {"Location": targets.get(behavior, self.path)})
        if behavior == "no content":
            return self._send(204, b"", {"Content-Length": None})
        if behavior == "login page" or (behavior == "login page for the rest" and is_resumed):
            return self._send(200, LOGIN_PAGE, {"Content-Type": "text/html"})
        if behavior == "other content":
            body = body[::-1]
        if behavior == "empty":
            body = b""
        if behavior == "short":
            body = body[:-1000]
        if behavior == "compressed":
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        if is_resumed and behavior != "no resume":
            start = int(requested)
            headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            if behavior == "part of the beginning":
                return self._send(206, body[: len(body) - start], {"Content-Range": f"bytes 0-{start - 1}/{len(body)}"})
            if behavior == "part without range":
                headers = {}
            if behavior == "part of another version":
                headers["ETag"] = '"two"'
            if behavior == "part with another total":
                headers["Content-Range"] = f"bytes {start}-{len(body)}/{len(body) + 1}"
        if behavior == "part that was not asked for":
            half = len(body) // 2
            return self._send(206, body[half:], {"Content-Range": f"bytes {half}-{len(body) - 1}/{len(body)}"})
        if behavior == "truncate without etag":
            headers["ETag"] = None
        if behavior in ("truncate without length", "endless", "no length"):
            headers["Content-Length"] = None
        if behavior == "length is text":
            headers["Content-Length"] = "lots"
        if behavior == "length is huge":
            headers["Content-Length"] = str(1 << 60)
        if behavior == "truncate chunks":
            headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
            body = b"%x\r\n%s" % (len(body), body[: len(body) // 2])
        rest = body[start:]
        is_truncated = behavior in ("truncate", "truncate without etag", "truncate without length", "reset")
        once = (*BEHAVIORS[BEHAVIORS.index("no resume") :], "login page for the rest", "truncate once")
        cut = len(rest) // 2 if is_truncated or (behavior in once and is_first) else None
        return self._send(206 if is_resumed and start else 200, rest, headers, cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str | None], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "ETag": self.server.etag} | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.server.behavior == "slow":
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                time.sleep(0.02)
            return
        if self.server.behavior == "stall":
            self.wfile.write(body[: len(body) // 4])
            self.server.release.wait(20)
            return
        self.wfile.write(body[:cut])
        while self.server.behavior == "endless" and not self.server.release.is_set():
            self.wfile.write(body)
        if self.server.behavior == "reset":
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
