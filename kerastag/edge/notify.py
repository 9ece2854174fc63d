"""What systemd is told of the service: that it is ready, alive, and about to stop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from kerastag.edge.blocks import now

__all__ = ["Notifier"]


class Notifier:
    """The protocol of `sd_notify`: a line in a datagram to the socket that `NOTIFY_SOCKET` names.

    Without systemd nothing happens. A service whose `WatchdogSec` passes without `alive` is started anew by systemd.

    Args:
        environment: Where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are; None is the process's own.

    >>> Notifier({}).ready()
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        with contextlib.suppress(ValueError):
            # Twice in the time that systemd waits, as its manual has it.
            self._pause = int(environment.get("WATCHDOG_USEC", "")) / 2e6 if ours else None
            self._due = 0.0
            return
        self._pause = None

    def ready(self) -> None:
        """The service does what it is there for."""
        self._send("READY=1")

    def alive(self) -> None:
        """The service still does; costs nothing when it is called too often."""
        if self._pause is not None and now() >= self._due:
            self._due = now() + self._pause
            self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(line.encode(), address)
