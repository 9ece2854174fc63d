"""TALNet: ten convolutions, a bidirectional GRU, probabilities a frame, `sum p^2 / sum p` over time.

On all of AudioSet, mAP / mAUC / d-prime: published .362 / .965 / 2.554;
.368 / .967 / 2.600 as the authors of GL-AT reproduced it.
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
    """Settings of TALNet; the defaults are the published run."""

    front_end: ClassVar = MODELS["talnet"].front_end

    def card(self, data: Data) -> Card:
        from kerastag.models.talnet import BACKBONE

        return self.waveform_card(data, BACKBONE)


def build(settings: Settings, data: Data) -> Any:
    return MODELS["talnet"].build(**settings.network(data))


def main(argv: Sequence[str] | None = None) -> int:
    return _waveform.main(Settings, build, "talnet", argv)


if __name__ == "__main__":
    sys.exit(main())
