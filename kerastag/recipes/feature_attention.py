"""Feature-level attention: table IV, row 8, and tables V to VII of paper 1.

`h_j = sum over segments of q(x)_j u(x)_j`, `F(B) = f(h)` (equations 20 to 24): attention weights the segments
separately for every hidden feature, and the classifier takes the one vector that results. Tables V, VI and VII vary the
non-negative function phi, the depth and the width.
"""

from dataclasses import dataclass
from typing import Literal

from kerastag.recipes._embeddings import EmbeddingConfig, embedding_recipe


@dataclass(frozen=True, kw_only=True)
class FeatureAttentionConfig(EmbeddingConfig):
    """Configuration of feature-level attention; the defaults are the published run.

    Args:
        phi: Non-negative function that turns scores into attention weights (equations 25 to 29).
    """

    phi: Literal["relu", "exp", "sigmoid", "softmax", "nin"] = "sigmoid"


RECIPE = embedding_recipe("feature_attention", __doc__, "phi", config=FeatureAttentionConfig)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
