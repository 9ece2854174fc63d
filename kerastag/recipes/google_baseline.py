"""Google's baseline: table I, row 2 of paper 1 (Gemmeke et al., 2017).

The network `f(x)` is trained on single segments that inherit the labels of their clip (equation 1). The prediction of a
clip is the mean over its segments. Paper 1 cites the result. What distinguishes this from `segment` is the shallow
network: one hidden layer, as Gemmeke et al. describe theirs.
"""

from kerastag.recipes._embeddings import embedding_recipe

RECIPE = embedding_recipe("google_baseline", __doc__, depth=1, single_segments=True)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
