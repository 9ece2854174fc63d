"""Address of an MQTT broker, and TLS for the connection to it."""

from __future__ import annotations

import os
import re
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["PASSWORD_VARIABLE", "USERNAME_VARIABLE", "BrokerAddress", "create_tls_context"]

USERNAME_VARIABLE, PASSWORD_VARIABLE = "KERASTAG_MQTT_USERNAME", "KERASTAG_MQTT_PASSWORD"
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MAX_TOPIC_BYTES = 1_000


class BrokerAddress:
    """The parts of the URL of a broker."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        authority = re.split("[/?#]", rest)[0]
        login, _, host = authority.rpartition("@")
        topic = rest[len(authority) :]
        try:
            parts = urlsplit(f"//{host}")
            self.host, port = parts.hostname or "", parts.port
        except ValueError:
            self.host, port = "", None
        self.tls = scheme == "mqtts"
        self.port = port or _DEFAULT_PORTS.get(scheme, 0)
        self.base = unquote(topic).strip("/") or "kerastag"
        username, _, password = login.partition(":")
        self.username, self.password = unquote(username) or None, unquote(password) or None
        # An @ in the topic may be the end of a password with a slash.
        is_topic = not re.search(r"[@?#]", topic) and not re.search(r"[#+?\0]", self.base)
        if not self.host or not self.port or not is_topic or len(self.base.encode()) > _MAX_TOPIC_BYTES:
            raise ValueError(
                "`output` must be mqtt://HOST[:PORT]/TOPIC, without + and # in the topic, with user and password "
                "percent-encoded (/ as %2F, ? as %3F, # as %23, @ as %40) or better in the environment variables "
                f"{USERNAME_VARIABLE} and {PASSWORD_VARIABLE}; received: {scheme[:5]}://…"
            )


class _TLSContext(ssl.SSLContext):
    """A TLS context that expects a certificate with a given name, whatever the host is."""

    server_name: str | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        if self.server_name is not None:
            options["server_hostname"] = self.server_name
        return super().wrap_socket(*arguments, **options)


def create_tls_context(
    address: BrokerAddress,
    ca_file: str | None,
    client_certificate: str | None,
    client_key: str | None,
    server_name: str | None,
) -> ssl.SSLContext | None:
    """Create the TLS context of a connection to a broker, or None for one without TLS; arguments as of `MqttSink`."""
    files = {"ca_file": ca_file, "client_certificate": client_certificate, "client_key": client_key}
    for name, value in {**files, "server_name": server_name}.items():
        if value is not None and not address.tls:
            raise ValueError(f"`{name}` must be used with mqtts://; received: mqtt://")
        if name in files and value is not None and not os.path.isfile(value):  # noqa: PTH113
            raise FileNotFoundError(f"{value}: no such file (`{name}`)")
    if client_key is not None and client_certificate is None:
        raise ValueError(f"`client_key` must be used with `client_certificate`; received: {client_key!r} alone")
    if not address.tls:
        return None
    context = _TLSContext(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = server_name
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"{ca_file}: `ca_file` must be certificates in PEM format ({error})") from None
    if client_certificate is not None:
        try:
            context.load_cert_chain(client_certificate, client_key, password=_refuse_encrypted_key)
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(
                f"{client_certificate}: `client_certificate` must be a certificate in PEM format with its key, which "
                f"may be in `client_key` ({error})"
            ) from None
    return context


def _refuse_encrypted_key() -> str:
    """Prevent OpenSSL from asking for the password of a key at the terminal."""
    raise ValueError("the key is encrypted")
