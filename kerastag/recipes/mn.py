"""MN of EfficientAT: MobileNetV3 for audio, not in either paper; it fits small devices.

EfficientAT's own mn04 reaches .432 mAP on all of AudioSet, distilled from a larger network; here it is trained on the
labels alone.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe("mn", __doc__, width=0.4)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
