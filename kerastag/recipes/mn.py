"""MN of EfficientAT: MobileNetV3 for audio, beyond the two papers; the one that fits a small device.

EfficientAT's own mn04 reaches .432 mAP on all of AudioSet, taught by a larger network; here from labels alone.
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
    """Settings of MN; the default width is that of mn04."""

    front_end: ClassVar = MODELS["mn"].front_end
    width: float = 0.4

    def card(self, data: Data) -> Card:
        from kerastag.models.mn import BACKBONE

        return self.waveform_card(data, BACKBONE)


def build(settings: Settings, data: Data) -> Any:
    return MODELS["mn"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "mn", argv)


if __name__ == "__main__":
    sys.exit(main())
