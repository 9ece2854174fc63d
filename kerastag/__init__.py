"""kerastag turns weakly labeled audio into a tagger that runs on a small device.

Importing it loads neither a framework nor NumPy: public names and subpackages are imported when they are first used.

>>> import kerastag
>>> kerastag.LabelSet.from_names(["Bark", "Rain"]).index("Rain")
1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kerastag._version import __version__

if TYPE_CHECKING:
    from kerastag import (
        archive,
        audio,
        custom,
        data,
        dsp,
        edge,
        events,
        export,
        importers,
        layers,
        metrics,
        models,
        recipes,
        review,
        serving,
        tagger,
        training,
    )
    from kerastag.labels import LabelSet
    from kerastag.models.loading import load_model
    from kerastag.tagger import Tagger

__all__ = [
    "LabelSet",
    "Tagger",
    "__version__",
    "archive",
    "audio",
    "custom",
    "data",
    "dsp",
    "edge",
    "events",
    "export",
    "importers",
    "layers",
    "load_model",
    "metrics",
    "models",
    "recipes",
    "review",
    "serving",
    "tagger",
    "training",
]

_DEFINING_MODULES = {
    "LabelSet": "kerastag.labels",
    "Tagger": "kerastag.tagger",
    "load_model": "kerastag.models.loading",
}


def __getattr__(name: str) -> Any:
    if name in _DEFINING_MODULES:
        value = getattr(import_module(_DEFINING_MODULES[name]), name)
    elif name in __all__:
        value = import_module(f"kerastag.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
