"""Self attention: table IV, row 3, and figure 2b of paper 1.

`F(B)_k = sum over segments of p(x)_k f(x)_k` (equation 16), where attention is computed from the output of the
classifier: `v(x) = sigmoid(U f(x) + c)`, `p(x) = v(x) / sum of v`.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("self_attention", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
