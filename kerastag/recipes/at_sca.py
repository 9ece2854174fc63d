"""AT-SCA of Hong et al., 2020: CNN10 with spatial and channel-wise attention; the exact layers are a guess.

On all of AudioSet, mAP, mAUC and d-prime: .390, .970 and 2.652 as published; .392, .969 and 2.658 as reproduced by the
authors of GL-AT.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe("at_sca", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
