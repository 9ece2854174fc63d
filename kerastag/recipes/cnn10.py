"""CNN10 of PANNs: eight convolutions, maximum plus mean over time, two dense layers.

On all of AudioSet, mAP / mAUC / d-prime: published .380 / .971 / 2.678;
.382 / .969 / 2.664 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kerastag.recipes import _waveform


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of CNN10; the defaults are the published run."""

    backbone: ClassVar = "cnn10"


build = _waveform.build


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "cnn10", argv)


if __name__ == "__main__":
    sys.exit(main())
