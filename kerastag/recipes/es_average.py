"""Embedded space, average of the segments: table I, sixth row, and all of table II.

`h = mean of x` (eq. 14), `F(B) = g(h)` (eq. 13). Table II varies the data and the balancing: `--train_packs` and
`--balance`.
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
    """Settings of the average of segments; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["es_average"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "es_average", argv)


if __name__ == "__main__":
    sys.exit(main())
