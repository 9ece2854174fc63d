"""Description of the installation, to paste into a bug report."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from kerastag._version import __version__
from kerastag.fetch import get_cache_folder

__all__ = ["describe_installation"]

_PACKAGES = (
    *("numpy", "soundfile", "soxr", "keras", "tensorflow", "jax", "h5py", "jsonargparse", "matplotlib"),
    *("scikit-learn", "scipy", "tqdm", "ai-edge-litert", "ai-edge-quantizer", "tflite-runtime", "tensorflow-io"),
    *("sounddevice", "paho-mqtt", "shtab"),
)
_INTERPRETERS = ("ai_edge_litert", "tflite_runtime")
_TIMEOUT_SECONDS = 120
# Each program prints one line. They run as processes of their own, because a broken package can end its process.
_PROGRAMS = {
    "TensorFlow": """
import tensorflow as tf
gpus = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
print(", ".join(details.get("device_name", "GPU") for details in gpus) or "none")
""",
    "JAX": """
import jax
print(", ".join(device.device_kind for device in jax.devices() if device.platform != "cpu") or "none")
""",
    "interpreter": """
import importlib
importlib.import_module(sys.argv[1] + ".interpreter").Interpreter
print(sys.argv[1])
""",
    "libsndfile": """
import soundfile
print(soundfile.__libsndfile_version__)
""",
}


def describe_installation() -> str:
    """Describe versions, devices, LiteRT interpreter, audio back ends and cache folder in lines of text.

    The text contains no name of the user or of the machine, and no path of a home folder.
    """
    lines = {
        "kerastag": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors",
        "packages": ", ".join(_list_packages()),
        "Keras backend": os.environ.get("KERAS_BACKEND") or "not set",
        "TensorFlow GPUs": _run_program("TensorFlow") if util.find_spec("tensorflow") else "not installed",
        "JAX devices": _run_program("JAX") if util.find_spec("jax") else "not installed",
        "interpreter": _find_interpreter(),
        "libsndfile": _run_program("libsndfile"),
        "ffmpeg": _find_ffmpeg(),
        "cache": _describe_cache(),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{title + ':':{width}}{text}" for title, text in lines.items())


def _list_packages() -> Iterator[str]:
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield f"{package} {metadata.version(package)}"


def _find_interpreter() -> str:
    problems = []
    for package in _INTERPRETERS:
        if util.find_spec(package) is not None:
            answer = _run_program("interpreter", package)
            if answer == package:
                return package
            problems.append(f"{package} {answer}")
    return "; ".join(problems) or "not installed"


def _find_ffmpeg() -> str:
    program = shutil.which("ffmpeg")
    if program is None:
        return "not found"
    answer = _run(program, "-version")
    return answer.split()[2] if answer.startswith("ffmpeg version") else answer


def _run_program(name: str, *arguments: str) -> str:
    """Run a program in another process and return the line that it prints, or the reason of its failure."""
    code = f"import sys, warnings\nwarnings.simplefilter('ignore')\n{_PROGRAMS[name]}"
    return _run(sys.executable, "-c", code, *arguments).splitlines()[-1]


def _run(*command: str) -> str:
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
        )
    except OSError as error:
        return f"fails: {type(error).__name__}"
    except subprocess.TimeoutExpired:
        return f"fails: no answer within {_TIMEOUT_SECONDS} s"
    if ended.returncode == 0:
        return ended.stdout.strip()
    lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
    # Absolute paths are reduced to file names.
    return "fails: " + re.sub(r"(?<!\w)(?:[A-Za-z]:)?[\\/](?:[^\s'\":,;()]*[\\/])?", "", lines[-1].strip())


def _describe_cache() -> str:
    folder = get_cache_folder()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    name = "a folder outside of ~"
    if os.environ.get("KERASTAG_HOME"):
        name = "KERASTAG_HOME"
    elif folder.is_relative_to(Path.home()):
        name = f"~/{folder.relative_to(Path.home()).as_posix()}"
    return f"{name}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"
