"""Training by several processes, on one host or on several: who takes part, and that all end when one of them does.

JAX trains, with the collective operations of its coordinator at HOST:PORT. Beside it, process 0 holds a connection to
each of the others at PORT + 1. They agree on the configuration there before they start, and notice at once when one
of them ends: JAX would notice after 100 seconds, with a stack trace.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from kerastag.data.batches import Batches
from kerastag.training.config import TrainingConfig
from kerastag.training.connections import Connections, ProcessGroup

__all__ = [
    "BatchShare",
    "ProcessGroup",
    "check_agreement",
    "exit_after_failure",
    "find_group",
    "is_main_process",
    "join_processes",
    "share_batches",
]

_MAY_DIFFER = ("config", "data_dir", "recordings_dir", "run_dir", "in_memory", "coordinator", "process_id")
_SLURM = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID")
_group: ProcessGroup | None = None  # of this process, while it is in one


def find_group(config: TrainingConfig, environment: Mapping[str, str] = os.environ) -> ProcessGroup | None:
    """Return the processes that train together, or None for a single one.

    Args:
        config: Configuration of the run.
        environment: Environment variables, of which `coordinator = "slurm"` needs those that `srun` sets.

    Raises:
        ValueError: The coordinator has no port, or the variables of Slurm are missing.
    """
    if config.coordinator is None:
        return None
    if config.coordinator == "slurm":
        if missing := [name for name in _SLURM if name not in environment]:
            raise ValueError(f"`coordinator` can be slurm only under `srun`: {', '.join(missing)} is not set")
        nodes, num_processes, process_id, job = (environment[name] for name in _SLURM)
        # The first of `node7`, `node7,node9`, `node[07-09,12]` and the like.
        if (first := re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)) is None:
            raise ValueError(f"SLURM_STEP_NODELIST must be a list of nodes; received: {nodes!r}")
        port = 61_440 + int(job) % 2_000 * 2
        return ProcessGroup(first[1] + (first[2] or ""), port, int(num_processes), int(process_id))
    host, _, port_text = config.coordinator.rpartition(":")
    if not host or not port_text.isdecimal() or not 0 < int(port_text) < 65_535:
        raise ValueError(f"`coordinator` must be HOST:PORT or slurm; received: {config.coordinator!r}")
    return ProcessGroup(host.strip("[]"), int(port_text), config.num_processes, config.process_id)


def is_main_process() -> bool:
    """Return whether this process is the only one of its run, or the one that writes the run folder."""
    return _group is None or _group.process_id == 0


@contextlib.contextmanager
def join_processes(config: TrainingConfig, command: str) -> Iterator[None]:
    """Train together with the other processes of a run while the block runs; do nothing for a single process.

    Call it before JAX is used. When a process ends before its block does, all others exit with status 1 and one line.

    Args:
        config: Configuration of the run.
        command: Name of the command, for that line.

    Raises:
        ValueError: The backend is not JAX, the run has no data, or the processes do not have the same configuration.
        ConnectionError: Processes did not connect in five minutes.
    """
    global _group
    group = find_group(config)
    if group is None or group.num_processes == 1:
        yield
        return
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError(f"`coordinator` needs KERAS_BACKEND=jax; received: {keras.backend.backend()!r}")
    if config.data_dir is None:
        raise ValueError("`data_dir` must be a folder of packs where several processes train; received: None")
    import jax

    values = {name: value for name, value in asdict(config).items() if name not in _MAY_DIFFER}
    connections = Connections(group, command, json.loads(json.dumps(values)))
    jax.distributed.initialize(
        f"{group.host}:{group.port}", group.num_processes, group.process_id, cluster_detection_method="deactivate"
    )
    _group = group
    try:
        yield
    except Exception:
        connections.exit_if_stopped()
        raise
    connections.finish()
    jax.distributed.shutdown()
    _group = None


def exit_after_failure(status: int) -> int:
    """Return an exit status; a process of a group that has failed ends here, as JAX would wait for the others."""
    if status and _group is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def check_agreement(name: str, value: int) -> None:
    """Raise a ValueError in all processes of a run unless they have the same value.

    Args:
        name: What the value is, and what to do, for the message.
        value: Integer of at most 31 bits.
    """
    if _group is None:
        return
    from jax.experimental import multihost_utils

    values = np.ravel(multihost_utils.process_allgather(np.int32(value))).tolist()
    for process_id, other in enumerate(values):
        if other != values[0]:
            raise ValueError(f"{name}: process 0 has {values[0]}, {_group.describe(process_id)} has {other}")


@dataclass(frozen=True)
class BatchShare:
    """The rows of each batch that one of several processes trains on.

    Args:
        batches: Batches of the run. A batch is made whole, so that mixup and every random choice are those of a single
            process.
        process_id: Number of the process, from 0.
        num_processes: Number of processes, a divisor of the batch size.
    """

    batches: Batches
    process_id: int
    num_processes: int

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and targets of this share of a batch."""
        inputs, targets = self.batches.batch(index)
        size = len(inputs) // self.num_processes
        share = slice(self.process_id * size, (self.process_id + 1) * size)
        return inputs[share], targets[share]


def share_batches(batches: Batches) -> Batches:
    """Return the share of this process in the batches of its run: all of them for a single process."""
    return batches if _group is None else BatchShare(batches, _group.process_id, _group.num_processes)
