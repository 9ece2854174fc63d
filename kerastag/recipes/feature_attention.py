"""Feature-level attention: table IV, last row; its depth, width and phi are tables V to VII.

`h_j = sum over segments of q(x)_j u(x)_j`, `F(B) = f(h)` (Kong et al., 2019, eq. 20 to 24): attention chooses for
every hidden feature which segments to look at, and the classifier sees the one vector that results.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kerastag.models import MODELS
from kerastag.recipes import _run
from kerastag.recipes._data import Data


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of feature-level attention; the defaults are the published run.

    Args:
        phi: the non-negative function that makes attention from scores (eq. 25 to 29).
    """

    phi: Literal["relu", "exp", "sigmoid", "softmax", "nin"] = "sigmoid"


def build(settings: Settings, data: Data) -> Any:
    return MODELS["feature_attention"].build(phi=settings.phi, **settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "feature_attention", argv)


if __name__ == "__main__":
    sys.exit(main())
