"""One process at a time writes a file or folder."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from checks import ROOT
from kerastag.files import is_temporary
from kerastag.locks import hold_lock

LOCKING_PROCESS = """
import sys
from kerastag.locks import hold_lock
with hold_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def locked_by_another_process(path):
    command = [sys.executable, "-c", LOCKING_PROCESS, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def test_what_another_process_writes_is_refused_with_its_number(tmp_path):
    path = tmp_path / "deep" / "a.h5"
    with locked_by_another_process(path) as process:
        message = rf"a\.h5: is being written by process {process.pid}$"
        with pytest.raises(BlockingIOError, match=message), hold_lock(path):
            pass
        process.stdin.close()
        process.wait()
    assert list(path.parent.iterdir()) == []
    message = f"is being written by process {os.getpid()}"
    with hold_lock(path), hold_lock(tmp_path / "b.h5"), pytest.raises(BlockingIOError, match=message), hold_lock(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_killed_process_leaves_no_lock(tmp_path):
    with locked_by_another_process(tmp_path / "a.h5") as process:
        process.kill()
        process.wait()
        assert [is_temporary(path) for path in tmp_path.iterdir()] == [True]
        with hold_lock(tmp_path / "a.h5"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_processes_that_wait_for_a_lock_hold_it_one_after_the_other(tmp_path):
    holders, most_holders, waits = [], [], []

    def use_lock(number):
        for _ in range(20):
            with hold_lock(tmp_path / "a.h5", wait=waits.append):
                holders.append(number)
                most_holders.append(len(holders))
                holders.remove(number)

    threads = [threading.Thread(target=use_lock, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_holders == [1] * 80
    assert set(waits) <= {f"process {os.getpid()}", "another process"}
    assert list(tmp_path.iterdir()) == []
