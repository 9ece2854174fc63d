"""The shared checks accept correct layers, and each rejects a layer with the fault that it is for."""

from typing import Any

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    check_masked_padding_changes_nothing,
    run_python,
)

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], dtype=bool)


@keras.saving.register_keras_serializable("test_checks")
class MaskedMean(keras.layers.Layer):
    """A correct layer: the mean over valid segments, times a number."""

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.supports_masking = True

    def call(self, x, mask=None):
        weights = keras.ops.ones_like(x[..., :1]) if mask is None else keras.ops.cast(mask, x.dtype)[..., None]
        return self.scale * keras.ops.sum(x * weights, axis=1) / keras.ops.sum(weights, axis=1)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class IgnoresItsMask(MaskedMean):
    def call(self, x, mask=None):
        return keras.ops.mean(x, axis=1)


class OmitsItsArgument(MaskedMean):
    def get_config(self):
        return keras.layers.Layer.get_config(self)


class DependsOnItsBatch(MaskedMean):
    def call(self, x, mask=None):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable("test_checks")
class LosesItsWeights(MaskedMean):
    def build(self, input_shape):
        self.random = keras.ops.convert_to_tensor(np.random.default_rng().random(input_shape[-1]).astype("float32"))

    def call(self, x, mask=None):
        return x * self.random


def build_model() -> keras.Model:
    segments = keras.Input((None, 4))
    hidden = keras.layers.Dense(2)(keras.layers.Masking(0.0)(segments))
    return keras.Model(segments, {"clipwise": MaskedMean()(hidden), "framewise": keras.layers.Dense(3)(hidden)})


def test_a_correct_layer_passes_every_check() -> None:
    check_layer_saves_exactly(lambda: MaskedMean(2.0), X)
    check_batch_equals_items(MaskedMean(), X)
    check_config_round_trip(MaskedMean(3.0))
    check_masked_padding_changes_nothing(MaskedMean(), X, MASK)


def test_a_correct_model_passes_every_check() -> None:
    model = build_model()
    check_layer_saves_exactly(model, X)
    check_batch_equals_items(model, X)
    check_masked_padding_changes_nothing(model, X, MASK)


def test_a_layer_with_several_inputs_passes() -> None:
    check_layer_saves_exactly(keras.layers.Add(), [X, X])


def test_an_ignored_mask_fails() -> None:
    with pytest.raises(AssertionError, match="item 0"):
        check_masked_padding_changes_nothing(IgnoresItsMask(), X, MASK)


def test_a_mask_without_padding_fails() -> None:
    with pytest.raises(AssertionError, match="needs padding"):
        check_masked_padding_changes_nothing(MaskedMean(), X, np.ones_like(MASK))


def test_an_omitted_argument_fails() -> None:
    with pytest.raises(AssertionError, match=r"missing in get_config\(\): \['scale'\]"):
        check_config_round_trip(OmitsItsArgument(2.0))


def test_an_item_that_depends_on_the_batch_fails() -> None:
    with pytest.raises(AssertionError, match="item 0"):
        check_batch_equals_items(DependsOnItsBatch(), X)


def test_weights_that_are_not_saved_fail() -> None:
    with pytest.raises(AssertionError, match="after saving and loading"):
        check_layer_saves_exactly(LosesItsWeights(), X)


def test_a_program_that_fails_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="status 3"):
        run_python("raise SystemExit(3)")
