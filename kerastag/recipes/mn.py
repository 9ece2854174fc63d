"""MN of EfficientAT: MobileNetV3 for audio, beyond the two papers; the one that fits a small device.

EfficientAT's own mn04 reaches .432 mAP on all of AudioSet, taught by a larger network; here from labels alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kerastag.recipes import _waveform


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of MN; the default width is that of mn04."""

    backbone: ClassVar = "mn"
    width: float = 0.4


build = _waveform.build


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "mn", argv)


if __name__ == "__main__":
    sys.exit(main())
