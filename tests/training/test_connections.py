"""Tests of the connections between the processes of a run, here of threads of one process."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kerastag.training import connections
from kerastag.training.connections import Connections, ProcessGroup


def find_port():
    """Find a port whose next one is free, too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        try:
            with socket.create_server(("127.0.0.1", port + 1)):
                return port
        except (OSError, OverflowError):
            continue


def connect(port, configs):
    """Connect as many processes as there are configurations, and return the connections or the error of each."""

    def connect_one(process_id):
        group = ProcessGroup("127.0.0.1", port, len(configs), process_id)
        try:
            return Connections(group, "a test", configs[process_id])
        except (ValueError, ConnectionError) as error:
            return error

    with ThreadPoolExecutor(len(configs)) as threads:
        return list(threads.map(connect_one, range(len(configs))))


def test_the_others_wait_until_process_0_has_finished():
    first, *others = connect(find_port(), [{"units": 8}] * 3)
    finished = []
    threads = [threading.Thread(target=lambda each=each: finished.append(each.finish())) for each in others]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert not finished
    first.finish()
    for thread in threads:
        thread.join(10)
    assert len(finished) == 2


def test_all_processes_name_the_first_field_that_differs():
    errors = connect(find_port(), [{"units": 8, "depth": 1}, {"units": 9, "depth": 1}])
    assert [str(error) for error in errors] == ["`units` must be 8 as in process 0; process 1 of 2 has 9"] * 2


def test_other_clients_are_ignored():
    port = find_port()

    def send(text):
        for _ in range(100):
            try:
                with socket.create_connection(("127.0.0.1", port + 1), timeout=1) as client:
                    client.sendall(text)
                return
            except OSError:
                time.sleep(0.01)

    strangers = [threading.Thread(target=send, args=[text]) for text in (b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n")]
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(Connections, ProcessGroup("127.0.0.1", port, 2, 0), "a test", {})
        for stranger in strangers:
            stranger.start()
        for stranger in strangers:
            stranger.join(10)
        second = Connections(ProcessGroup("127.0.0.1", port, 2, 1), "a test", {})
        first.result(10).finish()
        second.finish()


def test_processes_that_do_not_come_are_named(monkeypatch):
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.3)
    port = find_port()
    with pytest.raises(ConnectionError, match="all processes must start within 0 seconds; missing: process 1, 2"):
        Connections(ProcessGroup("127.0.0.1", port, 3, 0), "a test", {})
    with pytest.raises(ConnectionError, match=rf"process 0 must answer at 127\.0\.0\.1:{port + 1} within 0 seconds"):
        Connections(ProcessGroup("127.0.0.1", port, 3, 1), "a test", {})
