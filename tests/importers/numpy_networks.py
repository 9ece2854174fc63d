"""The published networks in float64 NumPy, with the names and axes of PyTorch, to compare the Keras models with."""

from collections.abc import Mapping
from functools import partial

import keras
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

State = Mapping[str, np.ndarray]


def compute_outputs(path, log_mel):
    """Compute the outputs of an imported model from log-mel instead of a waveform."""
    model = keras.saving.load_model(path)
    outputs = keras.Model(model.get_layer("front_end").output, model.output)(log_mel)
    return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}


def convolve(x, weight, stride=1, groups=1):
    """Convolve images `(batch, in, height, width)`, padded with `(k - 1) / 2` zeros on each side."""
    size = weight.shape[-1] // 2
    padded = np.pad(x, [(0, 0), (0, 0), (size, size), (size, size)])
    windows = sliding_window_view(padded, weight.shape[-2:], axis=(2, 3))[:, :, ::stride, ::stride]
    if groups == 1:
        return np.einsum("bihwkl,oikl->bohw", windows, weight.astype(float), optimize=True)
    return np.einsum("bihwkl,ikl->bihw", windows, weight[:, 0].astype(float), optimize=True)


def normalize(x, state: State, name: str, epsilon: float, axis: int = 1):
    shape = [1] * x.ndim
    shape[axis] = -1
    gamma, beta, mean, variance = (
        state[f"{name}.{part}"].astype(float).reshape(shape)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def pool(x):
    """Apply 2×2 average pooling, which skips an odd last row or column."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return x[:, :, :height, :width].reshape(*x.shape[:2], height // 2, 2, width // 2, 2).mean(axis=(3, 5))


def dense(x, state: State, name: str):
    return x @ state[f"{name}.weight"].T.astype(float) + state[f"{name}.bias"]


def relu(x):
    return np.maximum(x, 0)


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


panns_norm = partial(normalize, epsilon=1e-5)


def panns_block(x, state: State, name: str):
    for part in (1, 2):
        x = relu(panns_norm(convolve(x, state[f"{name}.conv{part}.weight"]), state, f"{name}.bn{part}"))
    return x


def panns_head(x, state: State):
    frames = x.mean(axis=3).transpose(0, 2, 1)  # (batch, output_frames, channels)
    embedding = relu(dense(frames.max(axis=1) + frames.mean(axis=1), state, "fc1"))
    return {
        "clipwise": sigmoid(dense(embedding, state, "fc_audioset")),
        "framewise": sigmoid(dense(relu(dense(frames, state, "fc1")), state, "fc_audioset")),
        "embedding": embedding,
    }


def cnn10(log_mel, state: State):
    x = panns_norm(log_mel.astype(float), state, "bn0", axis=2)[:, None]  # (batch, 1, frames, bins)
    for block in range(1, 5):
        x = pool(panns_block(x, state, f"conv_block{block}"))
    return panns_head(x, state)


def resnet38(log_mel, state: State):
    x = panns_norm(log_mel.astype(float), state, "bn0", axis=2)[:, None]
    x = pool(panns_block(x, state, "conv_block1"))
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            name = f"resnet.layer{stage}.{block}"
            x = shortcut = pool(x) if stage > 1 and block == 0 else x
            if stage > 1 and block == 0:
                shortcut = panns_norm(convolve(x, state[f"{name}.downsample.1.weight"]), state, f"{name}.downsample.2")
            y = relu(panns_norm(convolve(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1"))
            y = panns_norm(convolve(y, state[f"{name}.conv2.weight"]), state, f"{name}.bn2")
            x = relu(y + shortcut)
    return panns_head(panns_block(pool(x), state, "conv_block_after1"), state)


def talnet(log_mel, state: State, mean, std):
    x = ((log_mel.astype(float) - mean) / std)[:, None]  # (batch, 1, frames, bins)
    for layer in range(1, 11):
        x = convolve(x, state[f"conv{layer}.conv.weight"]) + state[f"conv{layer}.conv.bias"][:, None, None]
        x = relu(panns_norm(x, state, f"conv{layer}.bn"))
        if layer % 2 == 0:
            steps = 2 if layer <= 4 else 1
            frames, bins = x.shape[2] // steps, x.shape[3] // 2
            x = x[:, :, : frames * steps].reshape(*x.shape[:2], frames, steps, bins, 2).max(axis=(3, 5))
    x = x.transpose(0, 2, 1, 3).reshape(len(x), x.shape[2], -1)  # (batch, output_frames, channels * bins)
    directions = [gru(x, state, "l0"), gru(x[:, ::-1], state, "l0_reverse")[:, ::-1]]
    frames = np.concatenate(directions, axis=2)
    framewise = sigmoid(dense(frames, state, "fc_prob"))
    clipwise = (framewise**2).sum(axis=1) / framewise.sum(axis=1)
    return {"clipwise": clipwise, "framewise": framewise, "embedding": frames.mean(axis=1)}


def gru(x, state: State, suffix: str):
    """Compute the outputs of a recurrent layer, `(batch, steps, units)`, by the equations of `torch.nn.GRU`."""
    h, outputs = np.zeros((len(x), state[f"gru.weight_hh_{suffix}"].shape[1])), []
    for step in x.transpose(1, 0, 2):
        of_input, of_state = (
            np.split(value @ state[f"gru.weight_{part}_{suffix}"].T + state[f"gru.bias_{part}_{suffix}"], 3, axis=1)
            for part, value in (("ih", step), ("hh", h))
        )
        reset, update = (sigmoid(of_input[gate] + of_state[gate]) for gate in (0, 1))
        h = (1 - update) * np.tanh(of_input[2] + reset * of_state[2]) + update * h
        outputs.append(h)
    return np.stack(outputs, axis=1)


# Kernel, squeeze-excite, hard-swish and stride of MobileNetV3-Large's rows, independent of the table in the package.
MN_ROWS = (
    *((3, 0, 0, 1), (3, 0, 0, 2), (3, 0, 0, 1), (5, 1, 0, 2), (5, 1, 0, 1), (5, 1, 0, 1), (3, 0, 1, 2)),
    *((3, 0, 1, 1), (3, 0, 1, 1), (3, 0, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1), (5, 1, 1, 2), (5, 1, 1, 1), (5, 1, 1, 1)),
)


def mn(log_mel, state: State):
    norm = partial(normalize, epsilon=1e-3)
    x = log_mel.astype(float).transpose(0, 2, 1)[:, None]  # (batch, 1, bins, frames)
    x = hard_swish(norm(convolve(x, state["features.0.0.weight"], stride=2), state, "features.0.1"))
    for index, (size, excite, swish, stride) in enumerate(MN_ROWS, start=1):
        activation, name, part, shortcut = hard_swish if swish else relu, f"features.{index}.block", 0, x
        if state[f"{name}.0.0.weight"].shape[-1] == 1:
            x = activation(norm(convolve(x, state[f"{name}.0.0.weight"]), state, f"{name}.0.1"))
            part = 1
        kernel = state[f"{name}.{part}.0.weight"]
        assert kernel.shape[-1] == size
        x = activation(norm(convolve(x, kernel, stride, groups=x.shape[1]), state, f"{name}.{part}.1"))
        part += 1
        if excite:
            gate = relu(dense(x.mean(axis=(2, 3)), state, f"{name}.{part}.conc_se_layers.0.fc1"))
            gate = sigmoid(dense(gate, state, f"{name}.{part}.conc_se_layers.0.fc2"))
            x = x * gate[:, :, None, None]
            part += 1
        x = norm(convolve(x, state[f"{name}.{part}.0.weight"]), state, f"{name}.{part}.1")
        if stride == 1 and x.shape == shortcut.shape:
            x = x + shortcut
    x = hard_swish(norm(convolve(x, state["features.16.0.weight"]), state, "features.16.1"))
    frames = x.mean(axis=2).transpose(0, 2, 1)
    embedding = frames.mean(axis=1)

    def classify(features):
        return sigmoid(dense(hard_swish(dense(features, state, "classifier.2")), state, "classifier.5"))

    return {"clipwise": classify(embedding), "framewise": classify(frames), "embedding": embedding}
