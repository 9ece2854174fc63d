"""Feature-level average pooling: table IV, row 6 of paper 1.

`h = mean over segments of u(x)`, `F(B) = f(h)` (equation 21): feature-level attention with equal weights.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("feature_average", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
