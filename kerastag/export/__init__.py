"""Export of Keras models to TFLite and SavedModel files, each compared with Keras before it is kept.

The public names are imported when they are first used: `import kerastag.export` loads no framework.
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "export": ("export_model",),
        "report": ("ExportReport", "ParityError"),
        "target": ("Target", "Tolerance", "read_target"),
    },
)
