"""Importers of published checkpoints, which become `.keras` files of this package.

They need no PyTorch, and never run what a file contains.
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "efficientat": ("import_efficientat",),
        "panns": ("import_panns",),
        "talnet": ("import_talnet",),
        "torch_file": ("TorchFile",),
        "vggish": ("import_vggish",),
    },
)
