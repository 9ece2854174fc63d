"""AT-SCA: CNN10 with spatial and channel-wise attention; its exact layers are not in our sources.

On all of AudioSet, mAP / mAUC / d-prime: published .390 / .970 / 2.652;
.392 / .969 / 2.658 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kerastag.recipes import _waveform


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of AT_SCA; the defaults are the published run."""

    backbone: ClassVar = "at_sca"


build = _waveform.build


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "at_sca", argv)


if __name__ == "__main__":
    sys.exit(main())
