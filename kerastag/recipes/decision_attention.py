"""Decision-level single attention: table IV, fourth row, figure 2c.

`F(B)_k = sum over segments of p(x')_k f(x')_k` (eq. 16 to 19), attention and classifier on the shared hidden layers
x'.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of decision-level single attention; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import decision_attention

    return decision_attention(**settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "decision_attention"))
