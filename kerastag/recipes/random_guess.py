"""Random guess: table I, first row.

Scores are drawn uniformly; mAP comes out as the mean share of positive clips, AUC at one half, d-prime at zero.
"""

import sys

import numpy as np

from kerastag.recipes import _run
from kerastag.training.settings import RunSettings


def guess(settings: RunSettings, data) -> dict:
    """Clips -> the figures of scores drawn at random."""
    scores = np.random.default_rng(settings.seed).random(data.targets.shape)
    return {"ensemble": _run.figures_of(data, scores)}


if __name__ == "__main__":
    sys.exit(_run.main_without_network(RunSettings, guess, "random_guess"))
