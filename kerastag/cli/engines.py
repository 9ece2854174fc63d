"""The engine that runs a model: Keras, or LiteRT, for which published weights are exported once."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kerastag._version import __version__

__all__ = ["ENGINES", "prepare_model"]

ENGINES = ("auto", "litert", "keras")
"""Engines that run a model."""

_FORMAT = 1
_TARGET = "any_length"
_INTERPRETERS = ("ai_edge_litert", "tflite_runtime")


def prepare_model(model: str, engine: str = "auto") -> str:
    """Return what `Tagger.load` loads to run a model with an engine.

    Published weights are exported to LiteRT when they are first used, in a process of its own, to `NAME.tflite` in the
    cache folder. The file is exported again if it is damaged, or if the weights or the version of kerastag change.

    Args:
        model: Path of a model, or name of one, as in `Tagger.load`.
        engine: `"litert"`, `"keras"`, or `"auto"`: LiteRT where it and TensorFlow are installed, otherwise Keras, on
            JAX if TensorFlow is not installed. A file is always run by the engine of its format.

    Raises:
        ValueError: `engine` is unknown or cannot run the file, or the export failed.
        ImportError: No package that runs the model is installed.
        OSError: The weights cannot be fetched.
    """
    from kerastag.edge.runtime import is_tflite
    from kerastag.tagger.presets import find_tagger_weights

    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}; received: {engine!r}")
    weights = find_tagger_weights(model)
    if weights is None:
        if engine != "auto" and Path(model).is_file() and is_tflite(model) != (engine == "litert"):
            raise ValueError(f"`engine` must be auto or the one of the file for {model}; received: {engine!r}")
        return model
    has_tensorflow = _is_installed("tensorflow")
    if engine != "keras":
        has_interpreter = any(map(_is_installed, _INTERPRETERS))
        path = _find_export(model, weights) if has_interpreter else None
        if path is None and has_interpreter and has_tensorflow:
            path = _export(model, weights)
        if path is not None:
            return str(path)
        if engine == "litert":
            raise ImportError(f"{model}: exporting it to LiteRT needs TensorFlow: pip install 'kerastag[export]'")
    if not _is_installed("keras") or not (has_tensorflow or _is_installed("jax")):
        raise ImportError(f"{model}: running it needs TensorFlow and LiteRT: pip install 'kerastag[export]'")
    if not has_tensorflow:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    return model


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _export(preset: str, weights: str) -> Path:
    """Export published weights, unless another process has just done it."""
    from kerastag.fetch import fetch
    from kerastag.files import compute_digest, hold_lock, write_json

    fetch(weights)
    path, record_path = _get_paths(preset)
    with hold_lock(record_path, wait=lambda holder: _log(f"waiting for {holder}, which exports {preset}")):
        if (current := _find_export(preset, weights)) is not None:
            return current
        _log(f"exporting {preset} for LiteRT, once, in half a minute; --engine keras needs no export")
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
            raise ValueError(f"{preset}: cannot be exported, but `--engine keras` may run it ({reason})")
        write_json(record_path, {**_describe(weights), "file": compute_digest(path)})
    return path


def _find_export(preset: str, weights: str) -> Path | None:
    """Return the path of an export, if it is whole, of these weights and by this version of kerastag."""
    from kerastag.files import compute_digest, read_json

    path, record_path = _get_paths(preset)
    try:
        is_current = read_json(record_path) == {**_describe(weights), "file": compute_digest(path)}
    except (OSError, ValueError):
        return None
    return path if is_current else None


def _get_paths(preset: str) -> tuple[Path, Path]:
    from kerastag.fetch import get_cache_folder

    path = get_cache_folder() / f"{preset}.tflite"
    return path, path.with_suffix(".tflite.json")


def _describe(weights: str) -> dict[str, Any]:
    from kerastag.fetch import FILES, get_cache_folder
    from kerastag.files import compute_digest

    digest = compute_digest(get_cache_folder() / FILES[weights].file_name)
    return {"format": _FORMAT, "kerastag": __version__, "weights": digest}


def _log(line: str) -> None:
    print(f"kerastag tag: {line}", file=sys.stderr, flush=True)
