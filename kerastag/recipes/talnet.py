"""TALNet: ten convolutions, a bidirectional GRU, probabilities a frame, `sum p^2 / sum p` over time.

On all of AudioSet, mAP / mAUC / d-prime: published .362 / .965 / 2.554;
.368 / .967 / 2.600 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kerastag.recipes import _waveform


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of TALNet; the defaults are the published run."""

    backbone: ClassVar = "talnet"


build = _waveform.build


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "talnet", argv)


if __name__ == "__main__":
    sys.exit(main())
