"""What is none of one's own classes: made-up silence and noise, or recordings of everything else."""

from pathlib import Path

import numpy as np

from kerastag.audio.formats import find_audio_files


def background_clips(background: str, sample_rate: int, max_seconds: float) -> list[np.ndarray]:
    """What is none of the classes: nothing, made up, or the recordings of a folder."""
    if background == "none":
        return []
    if background != "made_up":
        from kerastag.custom.embed import waveform_of

        folder = Path(background)
        paths = find_audio_files(folder)
        if not paths:
            raise ValueError(f"`background` must be made_up, none or a folder of recordings, received {folder}")
        return [waveform_of(folder / path, sample_rate, max_seconds) for path in paths]
    random = np.random.default_rng(0)
    made = [np.zeros(5 * sample_rate, np.float32)]
    for tilt in (0.0, 0.5, 1.0):  # white, pink, brown
        for level in (1e-4, 3e-4, 1e-3):
            spectrum = np.fft.rfft(random.standard_normal(5 * sample_rate))
            spectrum /= np.maximum(1, np.arange(len(spectrum))) ** tilt
            noise = np.fft.irfft(spectrum)
            made.append((level * noise / noise.std()).astype(np.float32))
    return made
