"""Export models with the target `tflite_runtime`, with the predictions of Keras: `legacy_models.py FOLDER`.

`make test-legacy` runs it in the current environment; `test_tflite_runtime.py` reads the folder in the old one.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    """Export a model of embeddings and a model of waveforms."""
    from export.small_models import build_model, make_card, save_model

    from kerastag.export import export_model, read_target
    from kerastag.export.inputs import make_probes
    from kerastag.export.parity import predict_reference
    from kerastag.export.preparation import prepare_model
    from kerastag.export.source import read_source

    target = read_target("tflite_runtime")
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments, card in (
        ("feature_attention", {"units": 96, "depth": 2}, make_card("vggish", 9.6, 0.96)),
        ("cnn10", {"width": 1 / 16, "input": "waveform"}, make_card("panns", 1.0, 0.16)),
    ):
        # With the weights of seed 0, so narrow a CNN10 predicts almost the same for all probes.
        path = save_model(build_model(name, seed=1, **arguments), card, folder / f"{name}.keras")
        export_model(path, target, folder / f"{name}.tflite")
        prepared = prepare_model(read_source(path), target)
        inputs = np.concatenate(list(make_probes(prepared).values()))
        np.savez(folder / f"{name}.npz", inputs=inputs, **predict_reference(prepared, inputs))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main(Path(sys.argv[1]))
