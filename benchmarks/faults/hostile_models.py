"""Keras models with changed bytes, and some that name other classes, ask for memory or refer to other files.

A model must be loaded, or refused by a ValueError that begins with its path, in seconds.
"""

import json
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from models.test_loading import ATTACKS

from kerastag import load_model
from kerastag._keras import save_model

_MAX_SECONDS = 20


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Load the models; `quick` changes fewer bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        inputs = keras.Input((5, 3), name="embedding")
        x = keras.layers.Dense(4, activation="relu", name="dense")(inputs)
        save_model(keras.Model(inputs, keras.layers.Dense(2, name="classifier")(keras.layers.Flatten()(x))), path)
        yield _change_bytes(path, 20 if quick else 600)
        reasons = [reason for attack in ATTACKS if (reason := _load(_attack(path, attack), must_fail=True))]
        yield "Keras models with other classes and arguments", len(ATTACKS), len(reasons), "; ".join(reasons[:3])


def _change_bytes(path: Path, tries: int) -> tuple[str, int, int, str]:
    random, content, reasons = np.random.default_rng(0), path.read_bytes(), []
    mutant = path.with_name("mutant.keras")
    for number in range(tries):
        changed = bytearray(content)
        for position in random.integers(0, len(content), 1 + number % 4):
            changed[position] = random.integers(0, 256)
        mutant.write_bytes(changed[: random.integers(1, len(content))] if number % 10 == 9 else changed)
        if reason := _load(mutant):
            reasons.append(reason)
    return "a Keras model with changed bytes", tries, len(reasons), "; ".join(reasons[:3])


def _attack(path: Path, attack: Callable[[Any], Any]) -> Path:
    hostile = path.with_name("hostile.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                attack(config)
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return hostile


def _load(path: Path, must_fail: bool = False) -> str:
    """Load a model, and return what is wrong with the result or the error."""
    signal.alarm(_MAX_SECONDS)  # ends the process
    try:
        load_model(path)
    except ValueError as error:
        return "" if str(error).startswith(f"{path}: ") and "\n" not in str(error) else repr(error)[:200]
    except Exception as error:
        return repr(error)[:200]
    finally:
        signal.alarm(0)
    return "accepted" if must_fail else ""
