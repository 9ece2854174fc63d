"""What a result was computed with: versions of packages, and the processor."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kerastag._version import __version__

__all__ = ["count_cores", "package_versions", "processor_name"]

PACKAGES = ("keras", "tensorflow", "jax", "numpy", "h5py", "scikit-learn")


def package_versions() -> dict[str, str]:
    """Return the versions of kerastag, Python and the packages that decide the result of a run, and the processor."""
    versions = {"kerastag": __version__, "python": platform.python_version(), "machine": processor_name()}
    for name in PACKAGES:
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
