"""Joint detection and classification: table IV, second row, figure 2a.

`F(B)_k = sum over segments of p(x)_k f(x)_k` (eq. 16), the detector p and the classifier f with hidden layers of
their own on the raw segment.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of joint detection and classification; the defaults are the published run."""


def build(settings, data):
    from kerastag.models.embedding_models import jdc

    return jdc(**settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "jdc"))
