"""Joint detection and classification: table IV, second row, figure 2a.

`F(B)_k = sum over segments of p(x)_k f(x)_k` (eq. 16), the detector p and the classifier f with hidden layers of
their own on the raw segment.
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
    """Settings of joint detection and classification; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["jdc"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "jdc", argv)


if __name__ == "__main__":
    sys.exit(main())
