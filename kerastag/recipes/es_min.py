"""Embedded space, minimum of the segments: table I, eighth row.

`h_m = min of x_m` (the second half of eq. 15), `F(B) = g(h)` (eq. 13).
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
    """Settings of the minimum of segments; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["es_min"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "es_min", argv)


if __name__ == "__main__":
    sys.exit(main())
