"""Instance space, collective assumption: table I, row 5 of paper 1.

`F(B) = mean over segments of f(x)` (equation 10), with the loss on the clip (equation 8): all segments count equally.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("instance_average", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
