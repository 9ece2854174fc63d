"""Feature-level average pooling: table IV, sixth row.

`h = mean over segments of u(x)`, `F(B) = f(h)` (eq. 21): feature-level attention with equal weights.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of feature-level average pooling; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import feature_pooling

    return feature_pooling("average", **settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "feature_average"))
