"""Segment-based tagging: table I, row 3 of paper 1.

The network `f(x)` is trained on single segments that inherit the labels of their clip (equation 1). The prediction of a
clip is the mean over its segments. Each step takes one random segment of every clip in the batch.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("segment", __doc__, single_segments=True)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
