"""Instance space, collective assumption: table I, fifth row.

`F(B) = mean over segments of f(x)` (eq. 10), with the loss on the clip (eq. 8): every segment counts alike.
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
    """Settings of the collective assumption; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["instance_average"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "instance_average", argv)


if __name__ == "__main__":
    sys.exit(main())
