"""Processes that tag recordings, killed at random moments."""

import os
import signal
import threading

import numpy as np


def kill_workers_while(function, num_kills, seconds=(0.8, 2.0)):
    """Call a function while its processes are killed, at random times apart, and return the number of kills."""
    rng, kills, is_done = np.random.default_rng(0), [], threading.Event()

    def kill():
        while len(kills) < num_kills and not is_done.wait(rng.uniform(*seconds)):
            for pid in find_workers(os.getpid())[:1]:
                os.kill(pid, signal.SIGKILL)
                kills.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        function()
    finally:
        is_done.set()
        thread.join()
    return len(kills)


def find_workers(parent):
    """Find the processes that tag for a process."""
    children = []
    for path in os.listdir("/proc"):  # noqa: PTH208
        if path.isdigit():
            try:
                with open(f"/proc/{path}/stat", encoding="utf-8") as file:  # noqa: PTH123
                    fields = file.read().rpartition(")")[2].split()
                with open(f"/proc/{path}/cmdline", encoding="utf-8") as file:  # noqa: PTH123
                    is_worker = "kerastag.archive.worker" in file.read()
            except OSError:
                continue
            if int(fields[1]) == parent and is_worker:
                children.append(int(path))
    return children
