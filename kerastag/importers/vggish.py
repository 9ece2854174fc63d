"""Importer of the VGGish checkpoint, which TensorFlow reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.files import read_arrays
from kerastag.importers import _transfer
from kerastag.models.backbones.vggish import CONVOLUTIONS, EMBEDDING_SIZE, FRONT_END, SECONDS_PER_PATCH, vggish

__all__ = ["import_vggish"]

# The scope of each Keras layer in the checkpoint.
_SCOPES = {
    **{name: f"conv{name[4]}/{name}" if "_" in name else name for name, _ in CONVOLUTIONS if name != "pool"},
    "fc1_1": "fc1/fc1_1",
    "fc1_2": "fc1/fc1_2",
    "fc2": "fc2",
}
_FIRST_KERNEL = "vggish/conv1/weights"
_FIRST_CHANNELS = 64
_NUM_WEIGHTS = 72_000_000


def import_vggish(checkpoint: str | Path, pca: str | Path, output: str | Path, *, postprocess: str = "uint8") -> Path:
    """Convert the VGGish checkpoint and PCA to a `.keras` file that computes AudioSet's embeddings of waveforms.

    The model has no classes. Its output `segments` are the embeddings that the embedding models take.

    Args:
        checkpoint: Path `vggish_model.ckpt`, or the prefix of a checkpoint in several files.
        pca: Path of `vggish_pca_params.npz`.
        output: Path of the model, which ends in `.keras`; it is returned.
        postprocess: `"pca"` or `"uint8"`, as for `kerastag.models.backbones.vggish.vggish`.

    Raises:
        FileNotFoundError: The checkpoint, the PCA or the folder of the output does not exist.
        ValueError: A file is damaged or of another architecture, or `postprocess` is unknown.

    >>> from kerastag.importers import import_vggish
    >>> import_vggish("vggish_model.ckpt", "vggish_pca_params.npz", "vggish.keras")  # doctest: +SKIP
    PosixPath('vggish.keras')
    """
    _transfer.check_output_path(output)
    if postprocess not in ("pca", "uint8"):
        raise ValueError(f"`postprocess` must be one of pca, uint8; received: {postprocess!r}")
    means, eigen_vectors = read_pca(pca)
    checkpoint = Path(checkpoint)
    reader, shapes = _open_checkpoint(checkpoint)
    width = shapes[_FIRST_KERNEL][-1] / _FIRST_CHANNELS
    _transfer.check_size(checkpoint, "VGGish", width, _NUM_WEIGHTS)
    model = vggish(width=width, input="waveform", postprocess=postprocess)
    network = model.get_layer("patches").network
    variables = {}
    for layer, scope in _SCOPES.items():
        variables[f"vggish/{scope}/weights"] = network.get_layer(layer).kernel
        variables[f"vggish/{scope}/biases"] = network.get_layer(layer).bias
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    _transfer.check_tensors(checkpoint, "VGGish", expected, shapes)
    for name, variable in variables.items():
        variable.assign(_convert(checkpoint, name, _read_tensor(checkpoint, reader, name)))
    model.get_layer("segments").means.assign(means)
    model.get_layer("segments").eigen_vectors.assign(eigen_vectors)
    return _transfer.save_model(
        model,
        output,
        labels=None,
        front_end=FRONT_END,
        seconds_per_frame=SECONDS_PER_PATCH,
        origin=f"VGGish, {checkpoint.name} and {Path(pca).name}",
    )


def read_pca(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the means, float32 `(128,)`, and the eigenvectors, one per row, float32 `(128, 128)`, of VGGish's PCA."""
    path = Path(path)
    sizes = {"pca_means": EMBEDDING_SIZE, "pca_eigen_vectors": EMBEDDING_SIZE**2}
    arrays = read_arrays(path)
    for name, size in sizes.items():
        if name not in arrays or arrays[name].dtype.kind not in "fiu" or arrays[name].size != size:
            received = f"{arrays[name].dtype} of shape {arrays[name].shape}" if name in arrays else "nothing"
            raise ValueError(f"{path}: `{name}` must be {size} numbers of VGGish's PCA; received: {received}")
    means, eigen_vectors = (_convert(path, name, arrays[name]) for name in sizes)
    return means.reshape(-1), eigen_vectors.reshape(EMBEDDING_SIZE, EMBEDDING_SIZE)


def _open_checkpoint(path: Path) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Return TensorFlow's reader of a checkpoint, and the shapes of the weights of VGGish by name."""
    import tensorflow as tf

    if not path.is_file() and not path.with_name(f"{path.name}.index").is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with _explain_damage(path):
        reader = tf.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
    # The other variables are the state of the optimizer and of the training.
    weight_shapes = {
        name: tuple(shape)
        for name, shape in shapes.items()
        if not name.startswith(("global_step", "beta", "train/")) and "/Adam" not in name
    }
    if len(weight_shapes.get(_FIRST_KERNEL, ())) != 4 or not weight_shapes[_FIRST_KERNEL][-1]:
        raise ValueError(f"{path}: must be a checkpoint of VGGish; received: no `{_FIRST_KERNEL}`")
    return reader, weight_shapes


def _read_tensor(path: Path, reader: Any, name: str) -> np.ndarray:
    with _explain_damage(path):
        return reader.get_tensor(name)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn any error of TensorFlow's reader, whose type depends on the damaged byte, into one that names the file."""
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: must be a TensorFlow checkpoint that is not damaged ({reason})") from None


def _convert(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    return _transfer.check_finite(path, name, np.asarray(array, dtype="float32"))
