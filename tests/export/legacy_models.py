"""Write what target `tflite_runtime` makes, and what Keras says of it, for the old stack: `legacy_models.py FOLDER`.

Run by `make test-legacy` in the current environment; `test_tflite_runtime.py` reads the folder in the old one.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    """Two models: embeddings to tags, and waveform to tags."""
    from export.small_models import built, card_of, saved

    from kerastag.export import probes
    from kerastag.export.export import export
    from kerastag.export.serving import serve
    from kerastag.export.source import read_source
    from kerastag.export.target import read_target

    target = read_target("tflite_runtime")
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings, card in (
        ("feature_attention", {"units": 96, "depth": 2}, card_of("vggish", 9.6, 0.96)),
        ("cnn10", {"width": 1 / 16, "input": "waveform"}, card_of("panns", 1.0, 0.16)),
    ):
        # Weights that tell the probes' sounds apart: with those of seed 0 a CNN10 so narrow hardly does.
        path = saved(built(name, seed=1, **settings), card, folder / f"{name}.keras")
        export(path, target, folder / f"{name}.tflite")
        served = serve(read_source(path), target)
        given = np.concatenate(list(probes.inputs(served).values()))
        np.savez(folder / f"{name}.npz", given=given, **served.reference.predict_on_batch(given))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main(Path(sys.argv[1]))
