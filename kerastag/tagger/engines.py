"""The engine that runs a model: Keras, or LiteRT, for which published weights are exported once."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kerastag._version import __version__
from kerastag.edge.runtime import is_tflite
from kerastag.fetch import FILES, fetch, get_cache_folder
from kerastag.files import compute_digest, read_json, write_json
from kerastag.locks import hold_lock
from kerastag.tagger.presets import fetch_model, find_tagger_weights

__all__ = ["ENGINES", "prepare_model"]

ENGINES = ("auto", "litert", "keras")
"""Engines that run a model."""

_FORMAT = 1
_TARGET = "any_length"
_INTERPRETERS = ("ai_edge_litert", "tflite_runtime")


def prepare_model(model: str | os.PathLike[str], engine: str = "auto") -> Path:
    """Return the path of the file that an engine runs for a model.

    Published weights are exported to LiteRT when they are first used, in a process of its own, to `NAME.tflite` in the
    cache folder. The file is exported again if it is damaged, or if the weights or the version of kerastag change.

    Args:
        model: Path of a `.keras` or `.tflite` file, or one of `PRESETS`.
        engine: `"litert"`, `"keras"`, or `"auto"`: LiteRT where it and TensorFlow are installed, otherwise Keras, on
            JAX if TensorFlow is not installed. A file is always run by the engine of its format.

    Raises:
        FileNotFoundError: `model` is neither a file nor a preset.
        ValueError: `engine` is unknown or cannot run the file, the file is damaged, or the export failed.
        ImportError: No package that runs the model is installed.
        OSError: The weights cannot be fetched.
    """
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}; received: {engine!r}")
    name = os.fspath(model)
    weights = find_tagger_weights(name)
    if weights is None:
        path = fetch_model(name)
        if engine != "auto" and is_tflite(path) != (engine == "litert"):
            raise ValueError(f"`engine` must be auto or the one of the file for {name}; received: {engine!r}")
        return path
    has_tensorflow = _is_installed("tensorflow")
    if engine != "keras":
        has_interpreter = any(map(_is_installed, _INTERPRETERS))
        export = _find_export(name, weights) if has_interpreter else None
        if export is None and has_interpreter and has_tensorflow:
            export = _export(name, weights)
        if export is not None:
            return export
        if engine == "litert":
            raise ImportError(f"{name}: exporting it to LiteRT needs TensorFlow: pip install 'kerastag[export]'")
    if not _is_installed("keras") or not (has_tensorflow or _is_installed("jax")):
        raise ImportError(f"{name}: running it needs TensorFlow and LiteRT: pip install 'kerastag[export]'")
    if not has_tensorflow:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    return fetch_model(name)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _export(preset: str, weights: str) -> Path:
    """Export published weights, unless another process has just done it."""
    fetch(weights)
    path, record_path = _get_paths(preset)
    with hold_lock(record_path, wait=lambda holder: _log(f"waiting for {holder}, which exports {preset}")):
        if (current := _find_export(preset, weights)) is not None:
            return current
        _log(f"exporting {preset} for LiteRT, once, in half a minute; the engine keras needs no export")
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        result = subprocess.run(
            [sys.executable, "-m", "kerastag", "export", preset, "--target", _TARGET, "--output", os.fspath(path)],
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
            raise ValueError(f"{preset}: cannot be exported, but the engine keras may run it ({reason})")
        write_json(record_path, {**_describe(weights), "file": compute_digest(path)})
    return path


def _find_export(preset: str, weights: str) -> Path | None:
    """Return the path of an export, if it is whole, of these weights and by this version of kerastag."""
    path, record_path = _get_paths(preset)
    try:
        is_current = read_json(record_path) == {**_describe(weights), "file": compute_digest(path)}
    except (OSError, ValueError):
        return None
    return path if is_current else None


def _get_paths(preset: str) -> tuple[Path, Path]:
    path = get_cache_folder() / f"{preset}.tflite"
    return path, path.with_suffix(".tflite.json")


def _describe(weights: str) -> dict[str, Any]:
    digest = compute_digest(get_cache_folder() / FILES[weights].file_name)
    return {"format": _FORMAT, "kerastag": __version__, "weights": digest}


def _log(line: str) -> None:
    print(f"kerastag: {line}", file=sys.stderr, flush=True)
