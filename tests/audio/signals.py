"""Sines, and audio files to read."""

import numpy as np
import soundfile


def make_sine(frames, rate, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(frames) / rate)).astype(np.float32)


def write_audio(path, samples, rate=16_000, container="WAV", subtype="PCM_16"):
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path
