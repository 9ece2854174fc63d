"""Packs of clips, the balanced sampler, batches, and the soundscapes and synthetic data to fill packs with.

Public names are imported when they are first used, so that h5py, Keras and TensorFlow load only where they are needed.
"""

from kerastag._lazy import attach

_NAMES_OF_MODULE = {
    "audio_list_reading": ("read_audio_list",),
    "audio_lists": ("AudioList", "Recording"),
    "audio_pack_writer": ("AudioPackReport", "pack_audio", "pack_waveforms"),
    "batches": (
        "AudioFileBatches",
        "BalancedSampler",
        "Batches",
        "EmbeddingBatches",
        "WaveformBatches",
        "mix_up",
        "scale",
    ),
    "feature_pack_writer": ("FeaturePackWriter", "compute_digest", "count_clips", "verify_digest"),
    "hausdorff": ("compute_hausdorff_distances",),
    "other_sounds": ("OtherSounds",),
    "packs": ("AudioPack", "ConcatenatedPacks", "FeaturePack", "Pack", "open_pack"),
    "pipeline": ("KerasBatches", "make_training_dataset"),
    "sound_sources": ("RecordedBackground", "RecordedSounds", "SyntheticSounds", "find_sounds"),
    "soundscape_mixer": (
        "BackgroundSource",
        "Excerpt",
        "SoundSource",
        "Soundscape",
        "SoundscapeConfig",
        "SoundscapeEvent",
        "SoundscapeMixer",
    ),
    "soundscapes": ("SoundscapeReport", "make_soundscapes", "write_soundscapes", "write_synthetic_soundscapes"),
    "splits": ("Split", "assign_folds", "assign_recordings", "hold_out"),
    "synthetic_features": ("SyntheticFeatures", "make_synthetic_features", "write_synthetic_packs"),
    "tfrecord": ("FeaturePackReport", "pack_features"),
    "tfrecord_files": ("CorruptRecord",),
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES_OF_MODULE)
