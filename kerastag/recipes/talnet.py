"""TALNet: ten convolutions, a bidirectional GRU, framewise probabilities, `sum p^2 / sum p` over time.

On all of AudioSet, mAP, mAUC and d-prime: .362, .965 and 2.554 as published; .368, .967 and 2.600 as reproduced by the
authors of GL-AT.

The defaults are the training of its public code: 30,000 class-balanced batches of 250 clips, Adam with a rate of 1e-3
that falls by a fifth on plateaus, neither mixup nor SpecAugment. Deviations: the plateaus are those of the training
loss, not of the mAP of held-out clips, and the last model is evaluated, not the best on held-out clips.
`--row talnet_panns` trains like CNN10.
"""

from kerastag.recipes._waveforms import waveform_recipe

RECIPE = waveform_recipe(
    "talnet",
    __doc__,
    steps=30_000,
    batch_size=250,
    schedule="plateau",
    mixup=0.0,
    spec_augment=False,
    checkpoints=1,
)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
