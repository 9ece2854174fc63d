"""Description of the installation, to paste into a bug report."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
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
    """Describe versions, devices, LiteRT interpreter, audio back ends and cache folder.

    The text contains no name of the user or of the machine, and no path of a home folder.

    Returns:
        Lines of text.
    """
    lines = {
        "kerastag": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors",
        "packages": _list_packages(),
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


def _list_packages() -> str:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


def _find_interpreter() -> str:
    problems = []
    for package in _INTERPRETERS:
        if util.find_spec(package) is not None:
            answer = _run_program("interpreter", package)
            if answer == package:
                return package
            problems.append(f"{package} {answer}")
    return "; ".join(problems) or "not installed"


def _run_program(name: str, *arguments: str) -> str:
    """Run a program in another process and return the line that it prints, or the reason of its failure."""
    code = f"import sys, warnings\nwarnings.simplefilter('ignore')\n{_PROGRAMS[name]}"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"fails: no answer within {_TIMEOUT_SECONDS} s"
    if ended.returncode == 0:
        return ended.stdout.strip().splitlines()[-1]
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    return f"fails: {_shorten_paths(lines[-1]) if lines else f'status {ended.returncode}'}"


def _find_ffmpeg() -> str:
    program = shutil.which("ffmpeg")
    if program is None:
        return "not found"
    try:
        ended = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"fails: {type(error).__name__}"
    words = ended.stdout.split()
    return words[2] if ended.stdout.startswith("ffmpeg version") else f"fails: status {ended.returncode}"


def _describe_cache() -> str:
    folder = get_cache_folder()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return f"{_abbreviate(folder)}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"


def _abbreviate(folder: Path) -> str:
    if os.environ.get("KERASTAG_HOME"):
        return "KERASTAG_HOME"
    try:
        return f"~/{folder.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return "a folder outside of ~"


def _shorten_paths(text: str) -> str:
    """Reduce absolute paths to file names."""
    return re.sub(r"(?<!\w)(?:[A-Za-z]:)?[\\/](?:[^\s'\":,;()]*[\\/])?", "", text)
