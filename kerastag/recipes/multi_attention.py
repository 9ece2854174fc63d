"""Decision-level multi attention: table IV, row 5, and figure 3b of paper 1.

`F(B) = g(F_1(B), F_2(B))` (equation 6): single attention on each of the last two hidden layers, whose outputs are
concatenated, followed by one dense layer with sigmoids.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("multi_attention", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
