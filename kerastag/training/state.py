"""The exact state of a training run: saved whole, loaded bit for bit."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.files import write_atomically
from kerastag.training.devices import scope_of


def save_state(path: Path, model: Any, progress: dict[str, Any]) -> None:
    """A compiled model -> a file of all its variables: weights, optimizer, dropout's random state.

    Args:
        path: ends in `.npz`.
        model: built and compiled.
        progress: JSON values to keep beside, as the step.
    """
    arrays: dict[str, Any] = {f"v{i}": np.asarray(variable) for i, variable in enumerate(_variables(model))}
    arrays["progress"] = np.array(json.dumps({**progress, "paths": _paths(model)}))
    write_atomically(path, lambda beside: np.savez(beside, **arrays))


def load_state(path: Path, model: Any) -> dict[str, Any]:
    """A file of `save_state` -> the model as it was, and the progress saved with it.

    Raises:
        ValueError: the file is damaged or of another model.
    """
    try:
        # Opened here, for np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            progress = json.loads(str(arrays["progress"]))
            values = [arrays[f"v{i}"] for i in range(len(arrays.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a whole training state ({error})") from error
    variables = _variables(model)
    shapes = [tuple(v.shape) for v in variables]
    if _uncounted(progress.pop("paths")) != _paths(model) or [v.shape for v in values] != shapes:
        raise ValueError(f"{path}: the state of another model")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress


def build_optimizer(model: Any) -> None:
    """A compiled model -> the same with its optimizer's variables, which Keras else makes within the first step.

    A function of TensorFlow that makes variables is traced twice: a run would begin that much later.
    """
    if model.optimizer.built:  # building the one of mixed_float16 twice would reset its loss scale
        return
    with scope_of(model):
        model.optimizer.build(model.trainable_variables)


def _variables(model: Any) -> list[Any]:
    build_optimizer(model)
    return [*model.variables, *model.optimizer.variables]


def _paths(model: Any) -> list[str]:
    """Names without the counters that Keras adds when a process builds more than one model."""
    return _uncounted([f"{variable.name}:{variable.dtype}" for variable in _variables(model)])


def _uncounted(names: list[str]) -> list[str]:
    """The optimizer's variables are named after layers: `dense_4_kernel_momentum`."""
    return [re.sub(r"_\d+(?=_)", "", name) for name in names]
