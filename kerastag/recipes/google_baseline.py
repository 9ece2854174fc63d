"""Google's baseline: table I, second row (Gemmeke et al., 2017).

`f(x)` is trained on single segments that inherit the tags of their clip (eq. 1); the clip's prediction is the mean
over its segments. The paper cites the figure; what sets this apart from `segment` is the shallow network: one hidden
layer, as Gemmeke et al. describe theirs.
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
    """Settings of Google's baseline; the defaults are the published run."""

    depth: int = 1
    single_segments: bool = True


def build(settings: Settings, data: Data) -> Any:
    return MODELS["google_baseline"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "google_baseline", argv)


if __name__ == "__main__":
    sys.exit(main())
