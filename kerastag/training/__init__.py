"""Training with `model.fit`: configuration, task, trainer, exact resume, and the run folder.

Public names are imported when they are first used, so that Keras loads only where it is needed.
"""

from kerastag._lazy import attach

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

__getattr__, __dir__, __all__ = attach(__name__, _NAMES_OF_MODULE)
