"""Segment-based tagging: table I, third row.

`f(x)` is trained on single segments that inherit the tags of their clip (eq. 1); the clip's prediction is the mean
over its segments. A step sees one random segment of each clip of the batch.
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
    """Settings of the segment-based system; the defaults are the published run."""

    single_segments: bool = True


def build(settings: Settings, data: Data) -> Any:
    return MODELS["segment"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _run.main(Settings, build, "segment", argv)


if __name__ == "__main__":
    sys.exit(main())
