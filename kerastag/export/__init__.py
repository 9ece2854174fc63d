"""Export of Keras models to TFLite and SavedModel files, each compared with Keras before it is kept.

The public names are imported when they are first used: `import kerastag.export` loads no framework.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "ExportReport": "report",
    "ParityError": "report",
    "Target": "target",
    "Tolerance": "target",
    "export_model": "export",
    "read_target": "target",
}

__all__ = ["ExportReport", "ParityError", "Target", "Tolerance", "export_model", "read_target"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
