"""Who may use a server: tokens, and protection against pages on other sites."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from kerastag.serving.config import ServeConfig
from kerastag.serving.errors import RequestError

__all__ = ["AccessPolicy", "is_loopback"]

_OPEN_PATHS = re.compile(r"/(healthz|readyz|page/.*)?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+)(?::(?P<port>\d+))?")
_MIN_TOKEN_LENGTH = 8


class AccessPolicy:
    """The rules for who may use a server.

    A page on another site can make a browser send requests to a server on the same machine. So requests with the origin
    of another site are refused, and the name of the host must be one that no other site can take: with DNS rebinding,
    the name of another site leads to this server. A server with a token needs no such names, as no other site has it.

    Args:
        config: Configuration of the server.

    Raises:
        ValueError: The host is not loopback and there is no token, or the token is too short.
        OSError: The file of the token cannot be read.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._token_digest: bytes | None = None
        if config.token_file is not None:
            token = Path(config.token_file).read_text(encoding="utf-8").strip()
            if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(
                    f"{config.token_file}: must be a token of at least {_MIN_TOKEN_LENGTH} visible ASCII characters; "
                    f"received: {len(token)} characters"
                )
            self._token_digest = _hash(token)
        elif not is_loopback(config.host) and not config.no_token:
            raise ValueError(
                f"`host` must be a loopback address, such as 127.0.0.1, unless `token_file` protects the server or "
                f"`no_token` is set; received: {config.host}"
            )
        self._hosts = {"localhost", config.host.lower(), *(name.lower() for name in config.allowed_hosts)}
        self._origins = {origin.lower() for origin in config.allowed_origins}

    @property
    def needs_token(self) -> bool:
        """Whether clients must send a token."""
        return self._token_digest is not None

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Raise a `RequestError` with status 403 if a request comes from a page on another site."""
        host = headers.get("host", "").lower()
        match = _HOST.fullmatch(host)
        if match is None:
            raise RequestError(400, "bad_host", "the header `Host` must be a name or an address; received: neither")
        name = match["name"]
        if not self.needs_token and name not in self._hosts and not _is_address(name):
            allowed = "an IP address, localhost, or one of `allowed_hosts`"
            raise RequestError(403, "bad_host", f"the header `Host` must be {allowed}; received: {name[:100]!r}")
        origin = headers.get("origin", "").lower()
        is_same = not origin or origin.partition("://")[2] == host
        if not is_same and origin not in self._origins:
            allowed = "that of the server, or one of `allowed_origins`"
            raise RequestError(
                403, "cross_site", f"the origin of the page must be {allowed}; received: {origin[:100]!r}"
            )

    def check_token(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise a `RequestError` with status 401 if a path needs a token and a request does not have the right one."""
        if self.needs_token and not _OPEN_PATHS.fullmatch(path):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self.is_token(token.strip()):
                raise RequestError(
                    401, "unauthorized", "the request must have the header `Authorization: Bearer TOKEN`"
                )

    def is_token(self, token: object) -> bool:
        """Return whether a text is the token, in a time that does not depend on it; true if there is no token."""
        if self._token_digest is None:
            return True
        return isinstance(token, str) and hmac.compare_digest(_hash(token), self._token_digest)


def is_loopback(host: str) -> bool:
    """Return whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
