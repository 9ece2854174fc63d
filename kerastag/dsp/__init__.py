"""Waveform -> log-mel spectrogram in NumPy: the one definition of every mel front end."""

from kerastag.dsp.front_end import FrontEnd
from kerastag.dsp.front_ends import FRONT_ENDS
from kerastag.dsp.streaming import StreamingLogMel

__all__ = ["FRONT_ENDS", "FrontEnd", "StreamingLogMel"]
