"""The VGGish checkpoint in both formats of TensorFlow, compared with NumPy, and files that are rejected."""

import keras
import numpy as np
import pytest
from importers.numpy_networks import convolve, relu

from checks import SHARED
from kerastag.card import Card
from kerastag.dsp import FRONT_ENDS
from kerastag.importers import import_vggish
from kerastag.importers.vggish import read_pca

SHAPES = {
    "conv1": (3, 3, 1, 4),
    "conv2": (3, 3, 4, 8),
    "conv3/conv3_1": (3, 3, 8, 16),
    "conv3/conv3_2": (3, 3, 16, 16),
    "conv4/conv4_1": (3, 3, 16, 32),
    "conv4/conv4_2": (3, 3, 32, 32),
    "fc1/fc1_1": (6 * 4 * 32, 256),
    "fc1/fc1_2": (256, 256),
    "fc2": (256, 128),
}


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    arrays = {}
    for scope, shape in SHAPES.items():
        arrays[f"vggish/{scope}/weights"] = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        arrays[f"vggish/{scope}/biases"] = rng.normal(size=shape[-1]) * 0.1
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def pca(tmp_path_factory):
    rng = np.random.default_rng(1)
    vectors = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    path = tmp_path_factory.mktemp("pca") / "pca.npz"
    np.savez(path, pca_means=rng.normal(size=(128, 1)) * 0.1, pca_eigen_vectors=vectors)
    return path


def write_checkpoint(path, state, several_files=False):
    import tensorflow as tf

    names, arrays = list(state), list(state.values())
    if several_files:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=arrays)
    else:
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=arrays)
    return path


def compute_vggish(log_mel, state):
    """Compute the embeddings `(patches, 128)` of log-mel `(frames, 64)` in float64."""
    patches = log_mel[: len(log_mel) // 96 * 96].reshape(-1, 1, 96, 64).astype(float)

    def layer(x, scope):
        return convolve(x, state[f"vggish/{scope}/weights"].transpose(3, 2, 0, 1)) + state[
            f"vggish/{scope}/biases"
        ].reshape(1, -1, 1, 1)

    x = patches
    for group in (("conv1",), ("conv2",), ("conv3/conv3_1", "conv3/conv3_2"), ("conv4/conv4_1", "conv4/conv4_2")):
        for scope in group:
            x = relu(layer(x, scope))
        x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))
    x = x.transpose(0, 2, 3, 1).reshape(len(patches), -1)
    for scope in ("fc1/fc1_1", "fc1/fc1_2"):
        x = relu(x @ state[f"vggish/{scope}/weights"] + state[f"vggish/{scope}/biases"])
    return x @ state["vggish/fc2/weights"] + state["vggish/fc2/biases"]


@pytest.mark.parametrize("several_files", [False, True])
def test_the_imported_model_equals_numpy(several_files, state, pca, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "vggish_model.ckpt", state, several_files)
    path = import_vggish(checkpoint, pca, tmp_path / "vggish.keras", postprocess="pca")
    waveform = np.random.default_rng(2).uniform(-0.5, 0.5, 40_000).astype(np.float32)
    outputs = keras.saving.load_model(path)(waveform[None])
    arrays = np.load(pca)
    centered = compute_vggish(FRONT_ENDS["vggish"].compute_log_mel(waveform), state) - arrays["pca_means"].T
    expected = np.clip(centered @ arrays["pca_eigen_vectors"].T, -2, 2)
    assert expected.shape == (2, 128)
    assert expected.std() > 0.05
    np.testing.assert_allclose(outputs["segments"][0], expected, atol=1e-3)
    np.testing.assert_allclose(outputs["embedding"][0], expected.mean(axis=0), atol=1e-3)


def test_the_quantized_model_has_integers_and_a_card_without_classes(state, pca, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "vggish_model.ckpt", state)
    path = import_vggish(checkpoint, pca, tmp_path / "vggish.keras")
    waveform = np.random.default_rng(2).uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32)
    segments = keras.ops.convert_to_numpy(keras.saving.load_model(path)(waveform)["segments"])
    assert segments.shape == (1, 1, 128)
    np.testing.assert_array_equal(segments, np.clip(np.floor(segments), 0, 255))
    assert len(np.unique(segments)) > 10
    card = Card.read(path)
    assert card.labels is None
    assert card.seconds_per_frame == pytest.approx(0.96)
    assert card.sample_rate == 16_000


@pytest.mark.parametrize("several_files", [False, True])
def test_a_checkpoint_with_damaged_weights_is_one_line_that_names_it(several_files, state, pca, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "damaged.ckpt", state, several_files)
    data = tmp_path / ("damaged.ckpt.data-00000-of-00001" if several_files else "damaged.ckpt")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{checkpoint}: must be a TensorFlow checkpoint that is not damaged \("):
        import_vggish(checkpoint, pca, tmp_path / "vggish.keras")


def test_missing_unexpected_and_foreign_tensors_are_named(state, pca, tmp_path):
    output = tmp_path / "a.keras"
    short = write_checkpoint(tmp_path / "short", {n: a for n, a in state.items() if n != "vggish/fc2/biases"})
    with pytest.raises(
        ValueError, match=r"short: must be a checkpoint of VGGish; received: 1 missing: vggish/fc2/biases$"
    ):
        import_vggish(short, pca, output)
    long = write_checkpoint(tmp_path / "long", {**state, "mymodel/logits": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"1 unexpected: mymodel/logits$"):
        import_vggish(long, pca, output)
    foreign = write_checkpoint(tmp_path / "foreign", {"yamnet/conv": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"must be a checkpoint of VGGish; received: no `vggish/conv1/weights`$"):
        import_vggish(foreign, pca, output)
    assert not output.exists()


def test_files_that_are_not_a_checkpoint_or_a_pca_are_rejected(state, pca, tmp_path):
    (tmp_path / "text").write_text("no checkpoint", encoding="utf-8")
    with pytest.raises(ValueError, match="text: must be a TensorFlow checkpoint"):
        import_vggish(tmp_path / "text", pca, tmp_path / "a.keras")
    with pytest.raises(FileNotFoundError, match="absent: no such file"):
        import_vggish(tmp_path / "absent", pca, tmp_path / "a.keras")
    with pytest.raises(ValueError, match="text: not a complete .npz file"):
        import_vggish(tmp_path / "text", tmp_path / "text", tmp_path / "a.keras")
    with pytest.raises(FileNotFoundError, match="absent.npz: no such file"):
        import_vggish(tmp_path / "text", tmp_path / "absent.npz", tmp_path / "a.keras")
    np.savez(tmp_path / "other.npz", pca_means=np.zeros(3), pca_eigen_vectors=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"`pca_means` must be 128 numbers of VGGish's PCA; received: float64 of"):
        read_pca(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="`postprocess` must be one of pca, uint8; received: 'raw'"):
        import_vggish(tmp_path / "text", pca, tmp_path / "a.keras", postprocess="raw")


@pytest.mark.real
def test_the_published_pca_is_read():
    means, vectors = read_pca(SHARED / "data/weights/vggish_pca_params.npz")
    assert means.shape == (128,)
    assert vectors.shape == (128, 128)
    # Each row is an eigenvector scaled to unit variance, so that the rows are orthogonal.
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, np.eye(128), atol=1e-4)
