"""Training with `model.fit`: configuration, task, trainer, exact resume, and the run folder.

Public names are imported when they are first used, so that Keras loads only where it is needed.
"""

from importlib import import_module
from typing import Any

_NAMES_OF_MODULE = {
    "config": ("RunConfig", "TrainingConfig", "checkpoint_steps"),
    "evaluation": ("CheckpointEnsemble", "predict"),
    "optimization": ("averaged_weights", "compile_model"),
    "outputs": ("select_training_outputs",),
    "run_data": ("RunData", "load_run_data"),
    "run_folder": ("RunFolder",),
    "task": ("Task",),
    "trainer": ("train",),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}

__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
