"""Packs of clips, the balanced sampler, batches, and the soundscapes and synthetic data to fill packs with."""

import importlib
from typing import Any

_MODULES = {
    "audio_lists": ("AudioList", "Recording", "read_audio_list"),
    "audio_pack_writer": ("AudioPackReport", "pack_audio", "pack_waveforms"),
    "batches": ("Batches", "EmbeddingBatches", "WaveformBatches", "mix_up", "scale"),
    "feature_pack_writer": ("FeaturePackWriter", "compute_digest", "count_clips", "verify_digest"),
    "packs": ("AudioPack", "ConcatenatedPacks", "FeaturePack", "Pack", "open_pack"),
    "sampler": ("BalancedSampler",),
    "splits": ("DEFAULT_SPLITS", "Split", "assign_folds", "assign_recordings", "hold_out"),
    "synthetic": ("write_synthetic_packs",),
}
_MODULE_OF_NAME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF_NAME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: h5py, Keras and TensorFlow load only where they are needed."""
    if name in _MODULE_OF_NAME:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
