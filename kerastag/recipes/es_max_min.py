"""Embedded space, maximum and minimum of the segments: table I, row 9 of paper 1.

`h = (max of x_1, ..., max of x_M, min of x_1, ..., min of x_M)` (equation 15), `F(B) = g(h)` (equation 13).
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("es_max_min", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
