"""The connections between the processes of a run, by which they agree before it and notice the end of one of them."""

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, NoReturn

__all__ = ["Connections", "ProcessGroup"]

_CONNECT_SECONDS, _HELLO_SECONDS, _NOTICE_SECONDS = 300.0, 10.0, 1.0
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a host without power is noticed in a minute
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run, and which of them this is.

    Attributes:
        host: Host of process 0.
        port: Port of JAX's coordinator there; the next one is for the connections that this module makes.
        num_processes: Number of processes, at least 1.
        process_id: Number of this process, from 0.
    """

    host: str
    port: int
    num_processes: int
    process_id: int

    def describe(self, process_id: int) -> str:
        """Return how messages name a process."""
        return f"process {process_id} of {self.num_processes}"


class Connections:
    """The connections between process 0 and all others, which end the process when another one ends too early."""

    def __init__(self, group: ProcessGroup, command: str, config: dict[str, Any]) -> None:
        self._group, self._command = group, command
        self._is_done, self._is_stopped, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._files: dict[int, socket.SocketIO] = {}
        try:
            (self._connect if group.process_id else self._accept)(config)
        except BaseException:
            for file in self._files.values():
                file.close()
            raise
        for process_id, file in self._files.items():
            threading.Thread(target=self._watch, args=(process_id, file), daemon=True).start()

    def finish(self) -> None:
        """End the watch. The others wait until process 0 has written its files."""
        if self._group.process_id:
            self._is_done.wait()
        else:
            self._is_done.set()
            self._send_to_all({"error": None})

    def exit_if_stopped(self) -> None:
        """Exit after an error that comes from the end of another process, which the watch has noticed or will soon."""
        if self._is_stopped.wait(_NOTICE_SECONDS):
            threading.Event().wait()  # The watch exits.

    def _connect(self, config: dict[str, Any]) -> None:
        address, start = (self._group.host, self._group.port + 1), time.monotonic()
        while True:
            try:
                connection = socket.create_connection(address, timeout=10)
                break
            except OSError as error:
                if time.monotonic() - start > _CONNECT_SECONDS:
                    expected = f"at {address[0]}:{address[1]} within {_CONNECT_SECONDS:.0f} seconds"
                    raise ConnectionError(f"process 0 must answer {expected}; received: {error}") from error
                time.sleep(0.1)
        connection.settimeout(None)
        with connection:  # which stays open until its file is closed
            self._files[0] = _open(connection)
        group = self._group
        _send(self._files[0], {"id": group.process_id, "count": group.num_processes, "config": config})
        answer = _receive(self._files[0])
        if answer is None or answer["error"]:
            raise ValueError(answer["error"] if answer else "process 0 has ended")

    def _accept(self, config: dict[str, Any]) -> None:
        group = self._group
        family = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
        deadline = time.monotonic() + _CONNECT_SECONDS
        with socket.create_server(("", group.port + 1), **family) as server:  # type: ignore[arg-type]
            while missing := sorted({*range(1, group.num_processes)} - self._files.keys()):
                server.settimeout(max(0.0, deadline - time.monotonic()))
                try:
                    connection, _ = server.accept()
                except (TimeoutError, BlockingIOError):
                    names = ", ".join(map(str, missing))
                    raise ConnectionError(
                        f"all processes must start within {_CONNECT_SECONDS:.0f} seconds; missing: process {names}"
                    ) from None
                with connection:
                    connection.settimeout(_HELLO_SECONDS)
                    file = _open(connection)
                    hello = _receive(file)
                    connection.settimeout(None)
                if hello is None or hello.keys() != {"id", "count", "config"}:
                    file.close()  # not a process of a run
                    continue
                problem = self._find_problem(hello, config)
                if hello["id"] in self._files or problem:
                    problem = (
                        problem or f"`process_id` must be different in each process; received: {hello['id']} twice"
                    )
                    self._send_to_all({"error": problem})
                    with file:
                        _send(file, {"error": problem})
                    raise ValueError(problem)
                self._files[hello["id"]] = file
        self._send_to_all({"error": None})

    def _find_problem(self, hello: dict[str, Any], config: dict[str, Any]) -> str | None:
        group, other = self._group, hello["config"]
        if hello["count"] != group.num_processes:
            expected = f"{group.num_processes} as in process 0"
            return f"`num_processes` must be {expected}; process {hello['id']} has {hello['count']}"
        for name in sorted(config.keys() | other.keys()):
            if config.get(name) != other.get(name):
                return (
                    f"`{name}` must be {config.get(name)!r} as in process 0; {group.describe(hello['id'])} has "
                    f"{other.get(name)!r}"
                )
        return None

    def _watch(self, process_id: int, file: socket.SocketIO) -> None:
        with file:
            message = _receive(file)
        with self._lock:  # The first of several ends is the reason for the others.
            if self._is_done.is_set():
                return
            if message is not None and message["error"] is None:
                self._is_done.set()
                return
            self._stop(message["error"] if message else f"{self._group.describe(process_id)} has ended")

    def _stop(self, reason: str) -> NoReturn:
        self._is_stopped.set()
        line = f"{self._command}: error: {reason}; repeat the command in all processes to resume the run\n"
        os.write(2, line.encode())
        if not self._group.process_id:
            self._send_to_all({"error": reason})
            time.sleep(
                _NOTICE_SECONDS
            )  # The others end before the coordinator, whose loss JAX would report by a stack trace.
        os._exit(1)

    def _send_to_all(self, message: dict[str, Any]) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError, ValueError):  # The watch closes the file of a process that has ended.
                _send(file, message)


def _open(connection: socket.socket) -> socket.SocketIO:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection.makefile("rwb", buffering=0)


def _send(file: socket.SocketIO, message: dict[str, Any]) -> None:
    file.write(json.dumps(message).encode() + b"\n")


def _receive(file: socket.SocketIO) -> dict[str, Any] | None:
    """Return the next message, or None at the end of a connection or where something else arrives."""
    try:
        message = json.loads(file.readline(_MAX_LINE))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
