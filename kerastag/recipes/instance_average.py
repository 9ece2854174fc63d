"""Instance space, collective assumption: table I, fifth row.

`F(B) = mean over segments of f(x)` (eq. 10), with the loss on the clip (eq. 8): every segment counts alike.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of the collective assumption; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import instance_space

    return instance_space("average", **settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "instance_average"))
