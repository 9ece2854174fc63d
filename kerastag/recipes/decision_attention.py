"""Decision-level single attention: table IV, fourth row, figure 2c.

`F(B)_k = sum over segments of p(x')_k f(x')_k` (eq. 16 to 19), attention and classifier on the shared hidden layers
x'.
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
    """Settings of decision-level single attention; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["decision_attention"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "decision_attention", argv)


if __name__ == "__main__":
    sys.exit(main())
