"""Random guess: table I, row 1 of paper 1.

Scores are drawn uniformly. mAP is the mean fraction of positive clips, AUC one half and d-prime zero.
"""

from typing import Any

import numpy as np

from kerastag.recipes._recipe import Recipe
from kerastag.recipes._synthetic import run_without_baseline
from kerastag.training.config import RunConfig
from kerastag.training.run_data import RunData


def compute_scores(config: RunConfig, data: RunData) -> dict[str, Any]:
    """Draw a score for every clip and class."""
    return {"scores": np.random.default_rng(config.seed).random(data.targets.shape)}


RECIPE = Recipe("random_guess", __doc__, "scores", RunConfig, run_without_baseline, compute_scores=compute_scores)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
