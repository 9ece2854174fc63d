"""Self attention: table IV, third row, figure 2b.

`F(B)_k = sum over segments of p(x)_k f(x)_k` (eq. 16), where attention is computed from the classifier's own output:
`v(x) = sigmoid(U f(x) + c)`, `p(x) = v(x) / sum of v`.
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
    """Settings of self attention; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["self_attention"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "self_attention", argv)


if __name__ == "__main__":
    sys.exit(main())
