"""Log-mel spectrograms in NumPy, with the constants of every supported front end."""

from kerastag.dsp.front_end import FrontEnd
from kerastag.dsp.presets import FRONT_ENDS
from kerastag.dsp.streaming import StreamingLogMel

__all__ = ["FRONT_ENDS", "FrontEnd", "StreamingLogMel"]
