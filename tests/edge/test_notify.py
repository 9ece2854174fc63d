"""What systemd hears, on a real datagram socket."""

import socket
import time
from typing import NamedTuple

import pytest

from kerastag.edge.notify import Notifier


class Systemd(NamedTuple):
    name: str
    ear: socket.socket


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        try:
            ear.bind(name.replace("@", "\0", 1))
        except OSError:
            pytest.skip("needs abstract sockets, which Linux has")
        ear.setblocking(False)
        yield Systemd(name, ear)


def heard(systemd):
    lines = []
    while True:
        try:
            lines.append(systemd.ear.recv(1_000).decode())
        except BlockingIOError:
            return lines


def test_ready_alive_and_stopping(systemd):
    notifier = Notifier({"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "200000"})
    notifier.ready()
    for _ in range(100):
        notifier.alive()
    assert heard(systemd) == ["READY=1", "WATCHDOG=1"]
    time.sleep(0.11)  # half of what systemd waits
    notifier.alive()
    notifier.status("listens")
    notifier.stopping()
    assert heard(systemd) == ["WATCHDOG=1", "STATUS=listens", "STOPPING=1"]


def test_a_watchdog_of_another_process_or_none_is_not_fed(systemd):
    for environment in ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {}, {"WATCHDOG_USEC": "soon"}):
        Notifier({"NOTIFY_SOCKET": systemd.name, **environment}).alive()
    assert heard(systemd) == []


def test_nobody_listening_is_no_fault(tmp_path):
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000"}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.alive()
