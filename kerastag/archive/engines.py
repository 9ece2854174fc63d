"""Engines that write the shards of an archive: processes of this machine, or tasks of a Ray cluster.

Both call `write_shard` for each shard, and so write the same bytes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from kerastag.archive.reading import ListedFile
from kerastag.archive.settings import Job
from kerastag.archive.shards import Report, list_files, write_shard
from kerastag.archive.supervision import Worker

__all__ = ["ENGINES", "run_local", "run_ray"]

ENGINES = ("local", "ray")
"""Names of the engines."""
_SECONDS_BETWEEN_UPDATES = 0.2
_TASKS_PER_CORE = 2

Slice = tuple[int, pa.Table]
"""Number and files of a shard."""


def run_local(
    job: Job, slices: Sequence[Slice], jobs: int, report: Report, update: Callable[[], object], stop: threading.Event
) -> None:
    """Write shards in processes of this machine, until all are done or `stop` is set.

    Args:
        job: Job of the archive.
        slices: Shards to write.
        jobs: Number of processes, at least 1.
        report: Function to call after each file, in any thread.
        update: Function to call a few times per second.
        stop: Event after which no further shard begins.

    Raises:
        ValueError: The model cannot be loaded, or does not fit the settings.
        OSError: A table cannot be written.
    """
    waiting, errors = deque(slices), list[BaseException]()

    def run() -> None:
        worker = Worker(job)
        try:
            while not stop.is_set() and not errors:
                try:
                    shard, files = waiting.popleft()
                except IndexError:
                    return
                write_shard(job, shard, list_files(files), worker, report)
        except BaseException as error:
            errors.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(jobs, len(slices)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_SECONDS_BETWEEN_UPDATES)
            update()
    if errors:
        raise errors[0]


def run_ray(
    job: Job,
    slices: Iterable[Slice],
    address: str | None,
    report: Report,
    update: Callable[[], object],
    stop: threading.Event,
) -> None:
    """Write shards as tasks of a Ray cluster, which runs a task again if its node is lost.

    The folders of the archive, of the recordings and of the model must be the same on all nodes.

    Args:
        job: Job of the archive.
        slices: Shards to write.
        address: Address of the cluster, or None for `RAY_ADDRESS` or the cluster of this machine.
        report: Function to call for the files of a shard that is done.
        update: Function to call a few times per second.
        stop: Event after which no further shard begins.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: There is no such cluster.
        ValueError: The model cannot be loaded, or does not fit the settings.
        OSError: A table cannot be written.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("`engine` ray needs Ray: pip install 'kerastag[ray]'") from error
    was_connected = ray.is_initialized()
    if not was_connected:
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    task = ray.remote(_write_shard_as_task).options(num_cpus=1, max_retries=-1)
    waiting, running = deque(slices), list[Any]()
    try:
        while running or (waiting and not stop.is_set()):
            max_running = _TASKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < max_running and not stop.is_set():
                shard, files = waiting.popleft()
                running.append(task.remote(job, shard, list_files(files)))
            done, running = ray.wait(running, timeout=_SECONDS_BETWEEN_UPDATES)
            for reports in ray.get(done):
                for each in reports:
                    report(*each)
            update()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        if not was_connected:
            ray.shutdown()


_workers: dict[Job, Worker] = {}  # of a process of a cluster, which takes one task after the other


def _write_shard_as_task(job: Job, shard: int, files: list[ListedFile]) -> list[tuple[int, int, float, int]]:
    if job not in _workers:
        for worker in _workers.values():
            worker.close()
        _workers.clear()
        _workers[job] = Worker(job)
    reports = list[tuple[int, int, float, int]]()
    write_shard(job, shard, files, _workers[job], lambda *report: reports.append(report))
    return reports
