"""What the service of a stream tells systemd."""

import contextlib
import socket
from types import SimpleNamespace

import pytest

from kerastag.edge import service
from kerastag.edge.service import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        try:
            receiver.bind(name.replace("@", "\0", 1))
        except OSError:
            pytest.skip("needs abstract sockets, which Linux has")
        receiver.setblocking(False)
        yield SimpleNamespace(name=name, socket=receiver)


def receive_lines(systemd):
    lines = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines.append(systemd.socket.recv(1_000).decode())
    return lines


def test_ready_alive_and_stopping_are_sent(systemd, monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(service, "read_clock", lambda: now)
    notifier = SystemdNotifier({"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "200000"})
    notifier.send_ready()
    for _ in range(100):
        notifier.send_alive()
    assert receive_lines(systemd) == ["READY=1", "WATCHDOG=1"]
    now += 0.11  # half of the time that systemd waits
    notifier.send_alive()
    notifier.send_stopping()
    assert receive_lines(systemd) == ["WATCHDOG=1", "STOPPING=1"]


def test_the_watchdog_of_another_process_is_not_fed_and_a_missing_socket_is_ignored(systemd):
    for environment in ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {}, {"WATCHDOG_USEC": "soon"}):
        SystemdNotifier({"NOTIFY_SOCKET": systemd.name, **environment}).send_alive()
    assert receive_lines(systemd) == []
    for environment in ({}, {"NOTIFY_SOCKET": f"{systemd.name}/gone", "WATCHDOG_USEC": "1000"}):
        SystemdNotifier(environment).send_ready()
        SystemdNotifier(environment).send_alive()
