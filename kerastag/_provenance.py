"""What a result was computed with: versions of packages, and the processor."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kerastag._version import __version__

__all__ = ["PACKAGES", "count_cores", "list_gpus", "package_versions", "processor_name"]

PACKAGES = ("keras", "tensorflow", "jax", "numpy", "h5py", "scikit-learn")


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of kerastag, Python and packages, and the processor.

    Args:
        packages: Names of packages, of which those that are not installed are left out; by default, those that decide
            the result of a run.
    """
    versions = {"kerastag": __version__, "python": platform.python_version(), "machine": processor_name()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def count_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return the name of the processor and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def list_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs of this machine."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
