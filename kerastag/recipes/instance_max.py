"""Instance space, standard multiple-instance assumption: table I, row 4 of paper 1.

`F(B)_k = max over segments of f(x)_k` (equation 9), with the loss on the clip (equation 8): one positive segment
makes a clip positive.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("instance_max", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
