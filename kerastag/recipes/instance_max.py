"""Instance space, standard multiple-instance assumption: table I, fourth row.

`F(B)_k = max over segments of f(x)_k` (eq. 9), with the loss on the clip (eq. 8): one segment makes a clip positive.
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
    """Settings of the standard multiple-instance assumption; the defaults are the published run."""


def build(settings: Settings, data: Data) -> Any:
    return MODELS["instance_max"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "instance_max", argv)


if __name__ == "__main__":
    sys.exit(main())
