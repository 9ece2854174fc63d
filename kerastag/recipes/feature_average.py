"""Feature-level average pooling: table IV, sixth row.

`h = mean over segments of u(x)`, `F(B) = f(h)` (eq. 21): feature-level attention with equal weights.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerastag.models import MODELS
from kerastag.recipes import _run
from kerastag.recipes._data import Data


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of feature-level average pooling; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["feature_average"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "feature_average", argv)


if __name__ == "__main__":
    sys.exit(main())
