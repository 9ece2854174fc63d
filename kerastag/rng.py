"""Random number generators keyed by purpose, seed and number.

Every random choice in kerastag that must be reproducible is drawn from a generator of its own, so that a resumed run
draws what an undisturbed run would have drawn, and so that one choice never shifts another.
"""

from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "generator"]


class Purpose(IntEnum):
    """The streams of random numbers, one for each kind of choice.

    The values are part of every recorded result: a stream keeps its number forever.
    """

    CLASS_ORDER = 0  # order in which the balanced sampler visits the classes, by cycle
    CLIPS_OF_CLASS = 1  # order of the clips of a class, by class and round
    CLIP_ORDER = 2  # order of all clips, by round
    BATCH_ORDER = 3  # order of the clips in a batch, by batch
    HOLD_OUT = 101  # which clips are held out
    EMBEDDING_BATCH = 202  # segments and mixup of a batch of embeddings, by batch
    SOUNDSCAPE_SPLIT = 202
    WAVEFORM_BATCH = 303  # crops and mixup of a batch of waveforms, by batch


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of a seed and a key, the same one each time.

    Args:
        seed: Non-negative integer.
        *key: Non-negative integers, as a rule a `Purpose` and the number of a batch, class or scene.

    >>> generator(0, Purpose.HOLD_OUT).integers(100) == generator(0, Purpose.HOLD_OUT).integers(100)
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *map(int, key)))))
