"""Embedded space, maximum of the segments: table I, seventh row.

`h_m = max of x_m` (the first half of eq. 15), `F(B) = g(h)` (eq. 13).
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of the maximum of segments; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import embedded_space

    return embedded_space("max", **settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "es_max"))
