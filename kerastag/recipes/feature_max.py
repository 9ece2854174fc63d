"""Feature-level maximum pooling: table IV, row 7 of paper 1.

`h_j = max over segments of u(x)_j`, `F(B) = f(h)` (equation 21): every feature is taken from a single segment.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("feature_max", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
