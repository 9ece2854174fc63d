"""Random number generators with a key of seed, purpose and number.

Every random choice that must be reproducible has a generator of its own. So a resumed run draws what an uninterrupted
run would have drawn, and no choice affects another one.
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
    HOLD_OUT = 101  # clips that are held out
    EMBEDDING_BATCH = 202  # segments and mixup of a batch of embeddings, by batch
    WAVEFORM_BATCH = 303  # crops and mixup of a batch of waveforms, by batch
    BOOTSTRAP = 404  # clips and runs of bootstrap samples
    GAIN = 505  # levels of the waveforms of a batch, by batch

    # An alias: the splits of a soundscape data set have used this number since before the numbers were listed here, and
    # another one would change every published split. The streams never meet: no run makes soundscapes.
    SOUNDSCAPE_SPLIT = EMBEDDING_BATCH


def generator(seed: int, *key: int) -> np.random.Generator:
    """Create the generator of a seed and a key, which is the same for each call.

    Args:
        seed: Non-negative integer.
        *key: Non-negative integers, usually a `Purpose` and the number of a batch, class or soundscape.

    >>> generator(7, Purpose.HOLD_OUT, 3).integers(100, size=4).tolist()
    [28, 71, 19, 50]
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *map(int, key)))))
