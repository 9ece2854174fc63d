"""Networks from log-mel to probabilities, one per module; `kerastag.models` exports their builders.

Each module but `vggish` defines `build_features`, `build_head` (or imports one), `BACKBONE`, which joins both, and the
builder. These builders have the following arguments; values outside their range raise a ValueError.

- `num_classes`: Number of classes, at least 1.
- `width`: Factor on the number of channels and hidden units, in (0, 100].
- `input`: Input of the model: `log_mel`, `(batch, frames, mel_bins)`, or `waveform`, `(batch, samples)`.
- `dropout`: Dropout rate before the dense layers (in `talnet` before the recurrent one), in [0, 1).
- `block_dropout`: Dropout rate after a block of convolutions, in [0, 1).
- `augment`: Layer on the log-mel, after the normalization if there is one, such as `SpecAugment`; None for none.
- `name`: Name of the model.

They return a model with a dict of float32 outputs: `clipwise`, `(batch, num_classes)`, `framewise`,
`(batch, output_frames, num_classes)`, and `embedding`, `(batch, channels)`.
"""
