"""ResNet38 of PANNs: basic blocks 3, 4, 6, 3, two convolutions to 2048 channels, maximum plus mean over time.

On all of AudioSet, mAP, mAUC and d-prime: .434, .974 and 2.737 as published; .429, .974 and 2.713 as reproduced by the
authors of GL-AT.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe("resnet38", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
