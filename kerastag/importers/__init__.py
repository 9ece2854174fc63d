"""Importers of published checkpoints, which become `.keras` files of this package.

They need no PyTorch, and never run what a file contains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastag.importers.efficientat import import_efficientat
    from kerastag.importers.panns import import_panns
    from kerastag.importers.torch_file import TorchFile
    from kerastag.importers.vggish import import_vggish

__all__ = ["TorchFile", "import_efficientat", "import_panns", "import_vggish"]

_DEFINING_MODULES = {
    "TorchFile": "torch_file",
    "import_efficientat": "efficientat",
    "import_panns": "panns",
    "import_vggish": "vggish",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINING_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DEFINING_MODULES[name]}"), name)
