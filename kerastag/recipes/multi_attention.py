"""Decision-level multi attention: table IV, fifth row, figure 3b.

`F(B) = g(F_1(B), F_2(B))` (eq. 6): single attention on each of the last two hidden layers, their outputs
concatenated, then one dense layer with sigmoids.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of decision-level multi attention; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import multi_attention

    return multi_attention(**settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "multi_attention"))
