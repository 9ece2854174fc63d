"""AT-SCA: CNN10 with spatial and channel-wise attention; its exact layers are not in our sources.

On all of AudioSet, mAP / mAUC / d-prime: published .390 / .970 / 2.652;
.392 / .969 / 2.658 as the authors of GL-AT reproduced it.
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
    """Settings of AT_SCA; the defaults are the published run."""

    front_end: ClassVar = MODELS["at_sca"].front_end

    def card(self, data: Data) -> Card:
        from kerastag.models.at_sca import BACKBONE

        return self.waveform_card(data, BACKBONE)


def build(settings: Settings, data: Data) -> Any:
    return MODELS["at_sca"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "at_sca", argv)


if __name__ == "__main__":
    sys.exit(main())
