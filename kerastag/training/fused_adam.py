"""Adam by one kernel of TensorFlow per weight array instead of a dozen operations."""

from typing import Any

import keras

from kerastag._keras import get_adam_averages


@keras.saving.register_keras_serializable(package="kerastag")
class FusedAdam(keras.optimizers.Adam):
    """Adam, by one kernel of TensorFlow.

    `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `w = w - rate sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + e)`

    It equals `keras.optimizers.Adam` in variables, arguments and, to rounding, results. The implementation of Keras is
    used with `amsgrad`, for a sparse gradient, and on other backends, whose compilers fuse by themselves.

    Args:
        **kwargs: Arguments of `keras.optimizers.Adam`.

    Reference: Kingma and Ba, 2015, algorithm 1, in the order of computation at the end of its section 2.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.amsgrad or keras.backend.backend() != "tensorflow" or hasattr(gradient, "indices"):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        momentum, velocity = get_adam_averages(self, variable)
        beta_1, beta_2, epsilon, rate, gradient, step = (
            tf.cast(number, variable.dtype)
            for number in (self.beta_1, self.beta_2, self.epsilon, learning_rate, gradient, self.iterations + 1)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=_get_handle(variable),
            m=_get_handle(momentum),
            v=_get_handle(velocity),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def _get_handle(variable: Any) -> Any:
    """Return the handle that kernels of TensorFlow take, of a variable of Keras or TensorFlow."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
