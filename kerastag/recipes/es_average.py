"""Embedded space, average of the segments: table I, row 6, and all of table II of paper 1.

`h = mean of x` (equation 14), `F(B) = g(h)` (equation 13). Table II varies the data and the balancing: `--train-packs`
and `--balance`.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("es_average", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
