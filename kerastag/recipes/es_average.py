"""Embedded space, average of the segments: table I, sixth row, and all of table II.

`h = mean of x` (eq. 14), `F(B) = g(h)` (eq. 13). Table II varies the data and the balancing: `--train_packs` and
`--balance`.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of the average of segments; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import embedded_space

    return embedded_space("average", **settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "es_average"))
