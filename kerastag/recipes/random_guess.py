"""Random guess: table I, first row.

Scores are drawn uniformly; mAP comes out as the mean share of positive clips, AUC at one half, d-prime at zero.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastag.recipes import _run
from kerastag.recipes._data import Data
from kerastag.training.settings import RunSettings


class Settings(RunSettings):
    """Settings of the random guess."""


def tag_and_measure(settings: Settings, data: Data) -> dict[str, Any]:
    """Clips -> the figures of scores drawn at random."""
    scores = np.random.default_rng(settings.seed).random(data.targets.shape)
    return {"ensemble": _run.figures_of(data, scores)}


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main_without_network(Settings, tag_and_measure, "random_guess", argv)


if __name__ == "__main__":
    sys.exit(main())
