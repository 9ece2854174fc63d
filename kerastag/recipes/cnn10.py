"""CNN10 of PANNs: eight convolutions, maximum plus mean over time, two dense layers.

On all of AudioSet, mAP / mAUC / d-prime: published .380 / .971 / 2.678;
.382 / .969 / 2.664 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerastag.card import Card
from kerastag.recipes import _waveform
from kerastag.recipes._data import Data


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of CNN10; the defaults are the published run."""

    front_end: ClassVar[str] = "panns"

    def card(self, data: Data) -> Card:
        from kerastag.models.cnn10 import BACKBONE

        return self.waveform_card(data, BACKBONE)


def build(settings: Settings, data: Data) -> Any:
    from kerastag.models.cnn10 import cnn10

    return cnn10(**settings.network(data, settings.front_end))


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "cnn10", argv)


if __name__ == "__main__":
    sys.exit(main())
