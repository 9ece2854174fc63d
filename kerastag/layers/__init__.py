"""Keras layers.

They are written in `keras.ops` and run on every Keras backend. The two batch normalization layers call kernels of
TensorFlow where that is the backend.
"""

from importlib import import_module
from pkgutil import iter_modules

from kerastag._lazy import attach

_MODULES = {
    "attention_pooling": ("AttentionPooling",),
    "class_wise_clip_select": ("ClassWiseClipSelect",),
    "fused_batch_normalization": ("FusedBatchNormalization",),
    "half_dropout": ("HalfDropout",),
    "linear_softmax_pooling": ("LinearSoftmaxPooling",),
    "log_mel": ("LogMel",),
    "masked_batch_normalization": ("MaskedBatchNormalization",),
    "patchwise": ("Patchwise",),
    "segment_pooling": ("AveragePooling", "MaxPooling", "MinPooling", "SegmentPooling"),
    "spatial_channel_attention": ("SpatialChannelAttention",),
    "spec_augment": ("SpecAugment",),
    "vggish_postprocessor": ("VGGishPostprocessor",),
}

__getattr__, __dir__, __all__ = attach(__name__, _MODULES, ["register_layers"])


def register_layers() -> None:
    """Import every layer, so that Keras finds the classes that a `.keras` file names."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
