"""ResNet38 of PANNs: basic blocks 3, 4, 6, 3, two convolutions to 2048, maximum plus mean over time.

On all of AudioSet, mAP / mAUC / d-prime: published .434 / .974 / 2.737;
.429 / .974 / 2.713 as the authors of GL-AT reproduced it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kerastag.card import Card
from kerastag.models import MODELS
from kerastag.recipes import _waveform
from kerastag.recipes._data import Data


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of RESNET38; the defaults are the published run."""

    front_end: ClassVar = MODELS["resnet38"].front_end

    def card(self, data: Data) -> Card:
        from kerastag.models.resnet38 import BACKBONE

        return self.waveform_card(data, BACKBONE)


def build(settings: Settings, data: Data) -> Any:
    return MODELS["resnet38"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "resnet38", argv)


if __name__ == "__main__":
    sys.exit(main())
