"""ResNet38 of PANNs: basic blocks 3, 4, 6, 3, two convolutions to 2048, maximum plus mean over time.

On all of AudioSet, mAP / mAUC / d-prime: published .434 / .974 / 2.737;
.429 / .974 / 2.713 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kerastag.recipes import _waveform


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of RESNET38; the defaults are the published run."""

    backbone: ClassVar = "resnet38"


build = _waveform.build


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "resnet38", argv)


if __name__ == "__main__":
    sys.exit(main())
