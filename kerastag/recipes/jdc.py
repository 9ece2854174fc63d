"""Joint detection and classification: table IV, row 2, and figure 2a of paper 1.

`F(B)_k = sum over segments of p(x)_k f(x)_k` (equation 16), where the detector p and the classifier f have separate
hidden layers on the embedding.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("jdc", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
