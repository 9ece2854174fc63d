"""Embedded space, maximum of the segments: table I, row 7 of paper 1.

`h_m = max of x_m` (first half of equation 15), `F(B) = g(h)` (equation 13).
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("es_max", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
