"""Embedded space, minimum of the segments: table I, row 8 of paper 1.

`h_m = min of x_m` (second half of equation 15), `F(B) = g(h)` (equation 13).
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("es_min", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
