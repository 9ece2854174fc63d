"""TALNet: ten convolutions, a bidirectional GRU, framewise probabilities, `sum p^2 / sum p` over time.

On all of AudioSet, mAP, mAUC and d-prime: .362, .965 and 2.554 as published; .368, .967 and 2.600 as reproduced by the
authors of GL-AT.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe("talnet", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
