"""The exact state of a training run, saved as a whole and loaded bit for bit."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.files import read_arrays, write_atomically
from kerastag.training.devices import model_scope

__all__ = ["build_optimizer", "load_state", "save_state"]


def save_state(path: Path, model: Any, progress: dict[str, Any]) -> None:
    """Save all variables of a compiled model: weights, optimizer and the random state of dropout.

    Args:
        path: Path of the file, which ends in `.npz`.
        model: Keras model, built and compiled.
        progress: JSON values to save with the variables, such as the step.
    """
    arrays: dict[str, Any] = {f"v{i}": np.asarray(variable) for i, variable in enumerate(_variables(model))}
    arrays["progress"] = np.array(json.dumps({**progress, "paths": _variable_names(model)}))
    write_atomically(path, lambda temporary_path: np.savez(temporary_path, **arrays))


def load_state(path: Path, model: Any) -> dict[str, Any]:
    """Load a state into a compiled model.

    Args:
        path: Path of a file from `save_state`.
        model: Keras model that is built and compiled like the saved one.

    Returns:
        The progress that was saved with the variables.

    Raises:
        ValueError: The file is damaged, or the state of another model.
    """
    arrays = read_arrays(path)
    try:
        progress = json.loads(str(arrays.pop("progress")))
        values = [arrays[f"v{i}"] for i in range(len(arrays))]
        names = _without_counters(progress.pop("paths"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a complete training state ({error})") from error
    variables = _variables(model)
    shapes = [tuple(variable.shape) for variable in variables]
    if names != _variable_names(model) or [value.shape for value in values] != shapes:
        raise ValueError(f"{path}: the training state of another model")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress


def build_optimizer(model: Any) -> None:
    """Create the variables of a compiled model's optimizer, which Keras would create within the first step.

    TensorFlow traces a function that creates variables twice, which would delay the first step.
    """
    if model.optimizer.built:  # building the one of mixed_float16 twice would reset its loss scale
        return
    with model_scope(model):
        model.optimizer.build(model.trainable_variables)


def _variables(model: Any) -> list[Any]:
    build_optimizer(model)
    return [*model.variables, *model.optimizer.variables]


def _variable_names(model: Any) -> list[str]:
    return _without_counters([f"{variable.name}:{variable.dtype}" for variable in _variables(model)])


def _without_counters(names: list[str]) -> list[str]:
    """Remove the counters that Keras adds to the names of layers when a process builds more than one model."""
    return [re.sub(r"_\d+(?=_)", "", name) for name in names]
