"""Decision-level multi attention: table IV, fifth row, figure 3b.

`F(B) = g(F_1(B), F_2(B))` (eq. 6): single attention on each of the last two hidden layers, their outputs
concatenated, then one dense layer with sigmoids.
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
    """Settings of decision-level multi attention; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["multi_attention"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "multi_attention", argv)


if __name__ == "__main__":
    sys.exit(main())
