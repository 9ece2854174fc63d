"""Decision-level single attention: table IV, row 4, and figure 2c of paper 1.

`F(B)_k = sum over segments of p(x')_k f(x')_k` (equations 16 to 19), where attention and classifier share the hidden
layers that compute x'.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("decision_attention", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
