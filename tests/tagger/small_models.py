"""A small model of waveforms or log-mel with random weights, which is fast to build and to run."""

from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS


def save_small_model(path, labels, input="waveform", **card):
    """Save a classifier of log-mel averaged over 32 frames, 0.32 s, whose window is two seconds."""
    from keras import layers

    from kerastag.models.backbones.backbone import Backbone
    from kerastag.models.backbones.mn import build_head

    backbone = Backbone("efficientat", 32, layers.AveragePooling1D(32, padding="same"), build_head)
    backbone.build(len(labels), input=input, name="small", head={"hidden_units": 8}).save(path)
    front_end = FRONT_ENDS["efficientat"]
    fields = {"window_seconds": 2.0, "seconds_per_frame": 0.32, "front_end": front_end.as_dict(), **card}
    write_card(path, Card(labels, front_end.sample_rate, **fields))
    return path
