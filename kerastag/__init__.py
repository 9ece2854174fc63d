"""kerastag turns weakly labeled audio into a tagger that runs on a small device.

Importing it loads neither a framework nor NumPy: public names are imported when they are first used.

>>> import kerastag
>>> "LabelSet" in dir(kerastag)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastag.labels import LabelSet
    from kerastag.tagger import Tagger

__version__ = "0.1.0.dev0"
__all__ = ["LabelSet", "Tagger", "__version__"]

_HOMES = {"LabelSet": "kerastag.labels", "Tagger": "kerastag.tagger"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
