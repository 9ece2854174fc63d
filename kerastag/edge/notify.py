"""Notifications to systemd that the service is ready, alive, or about to stop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from kerastag.edge.clock import read_clock

__all__ = ["SystemdNotifier"]


class SystemdNotifier:
    """A sender of the protocol of `sd_notify`: lines in datagrams to the socket that `NOTIFY_SOCKET` names.

    Without systemd it does nothing. Systemd restarts a service that does not call `send_alive` within `WatchdogSec`.

    Args:
        environment: Mapping with `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; None is the environment of the
            process.

    >>> SystemdNotifier({}).send_ready()
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._interval: float | None = None
        self._due = 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with contextlib.suppress(ValueError):
                # Half of the time that systemd waits, as its manual recommends.
                self._interval = int(environment.get("WATCHDOG_USEC", "")) / 2e6

    def send_ready(self) -> None:
        """Notify that the service is running."""
        self._send("READY=1")

    def send_alive(self) -> None:
        """Feed the watchdog; a call before it is due does nothing."""
        if self._interval is not None and read_clock() >= self._due:
            self._due = read_clock() + self._interval
            self._send("WATCHDOG=1")

    def send_stopping(self) -> None:
        """Notify that the service is about to end."""
        self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(line.encode(), address)
