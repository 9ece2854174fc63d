"""CNN10 of PANNs: eight convolutions, maximum plus mean over time, two dense layers.

On all of AudioSet, mAP, mAUC and d-prime: .380, .971 and 2.678 as published; .382, .969 and 2.664 as reproduced by the
authors of GL-AT.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe("cnn10", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
