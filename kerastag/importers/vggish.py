"""The VGGish checkpoint and the PCA that AudioSet's features were released with."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.importers import _transfer
from kerastag.models.vggish import CONVOLUTIONS, EMBEDDING_SIZE, FRONT_END, SECONDS_PER_PATCH, vggish

WINDOW_SECONDS = 10.0
# Keras layer -> scope in the checkpoint.
SCOPES = {
    **{name: f"conv{name[4]}/{name}" if "_" in name else name for name, _ in CONVOLUTIONS if name != "pool"},
    "fc1_1": "fc1/fc1_1",
    "fc1_2": "fc1/fc1_2",
    "fc2": "fc2",
}
_FIRST = "vggish/conv1/weights"
_FIRST_CHANNELS = 64


def import_vggish(checkpoint: str | Path, pca: str | Path, output: str | Path, *, postprocess: str = "uint8") -> Path:
    """The VGGish TensorFlow checkpoint and PCA file -> a `.keras` file from waveform to AudioSet's embeddings.

    Args:
        checkpoint: `vggish_model.ckpt`, or the prefix of a checkpoint in several files.
        pca: `vggish_pca_params.npz`.
        output: Path that ends in `.keras`.
        postprocess: `"pca"` or `"uint8"`, as in `kerastag.models.vggish.vggish`.

    Returns:
        `output`. It has no classes, nor has its card; `segments` are the features that the embedding models read.

    Raises:
        FileNotFoundError: There is no such checkpoint or PCA file, or no folder for the output.
        ValueError: A file is damaged, or of another architecture; `postprocess` is unknown.

    >>> import_vggish("vggish_model.ckpt", "vggish_pca_params.npz", "vggish.keras")  # doctest: +SKIP
    PosixPath('vggish.keras')
    """
    _transfer.check_output(output)
    if postprocess not in ("pca", "uint8"):
        raise ValueError(f"`postprocess` must be pca or uint8, received {postprocess!r}")
    means, eigen_vectors = read_pca(pca)
    reader, shapes = _open(Path(checkpoint))
    model = vggish(width=shapes[_FIRST][-1] / _FIRST_CHANNELS, input="waveform", postprocess=postprocess)
    network = model.get_layer("patches").network
    places = _places(network)
    wanted = {name: tuple(weight.shape) for name, weight in places.items()}
    _transfer.check_names(Path(checkpoint), "VGGish", wanted, shapes)
    for name, weight in places.items():
        weight.assign(_finite(Path(checkpoint), name, reader.get_tensor(name)))
    postprocessor = model.get_layer("segments")
    postprocessor.means.assign(means)
    postprocessor.eigen_vectors.assign(eigen_vectors)
    return _transfer.save(
        model,
        output,
        labels=None,
        front_end=FRONT_END,
        window_seconds=WINDOW_SECONDS,
        seconds_per_frame=SECONDS_PER_PATCH,
        origin=f"VGGish, {Path(checkpoint).name} and {Path(pca).name}",
    )


def read_pca(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """`vggish_pca_params.npz` -> means `(128,)` and eigenvectors `(128, 128)`, one a row, float32.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`pca`: no such file: {path}")
    wanted = {"pca_means": EMBEDDING_SIZE, "pca_eigen_vectors": EMBEDDING_SIZE**2}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: _finite(path, name, arrays[name]) for name in wanted}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: is no VGGish PCA file ({error})") from None
    for name, size in wanted.items():
        if found[name].size != size:
            raise ValueError(f"{path}: `{name}` must hold {size} numbers, received shape {found[name].shape}")
    return found["pca_means"].reshape(-1), found["pca_eigen_vectors"].reshape(EMBEDDING_SIZE, EMBEDDING_SIZE)


def _open(path: Path) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Checkpoint -> TensorFlow's reader of it, and name -> shape of VGGish's own tensors."""
    import tensorflow as tf

    if not path.is_file() and not path.with_name(f"{path.name}.index").is_file():
        raise FileNotFoundError(f"`checkpoint`: no such checkpoint: {path}")
    try:
        reader = tf.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: is no TensorFlow checkpoint ({str(error).splitlines()[0]})") from None
    # The optimizer's state and the step counter of the training run may stand beside the weights.
    ours = {name: tuple(shape) for name, shape in shapes.items() if _is_weight(name)}
    if len(ours.get(_FIRST, ())) != 4 or not ours[_FIRST][-1]:
        raise ValueError(f"{path}: is no checkpoint of VGGish (no `{_FIRST}` in it)")
    return reader, ours


def _is_weight(name: str) -> bool:
    return not name.startswith("global_step") and "/Adam" not in name and not name.startswith(("beta", "train/"))


def _places(network: keras.Model) -> dict[str, Any]:
    places = {}
    for layer_name, scope in SCOPES.items():
        layer = network.get_layer(layer_name)
        places[f"vggish/{scope}/weights"] = layer.kernel
        places[f"vggish/{scope}/biases"] = layer.bias
    return places


def _finite(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype="float32")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: `{name}` holds values that are not finite")
    return array
