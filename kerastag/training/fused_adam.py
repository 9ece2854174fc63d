"""Adam in one operation of TensorFlow's for each weight array instead of a dozen."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="kerastag")
class FusedAdam(keras.optimizers.Adam):
    """Adam: a step against the gradient's average, by the root of its square's average.

    `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `w = w - rate sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + e)`

    `keras.optimizers.Adam` in every respect: variables, arguments, results to rounding. On TensorFlow, Keras composes a
    step of elementwise operations, each of which passes over all weights; here one kernel makes it. With `amsgrad`, for
    a sparse gradient and on another backend, whose compiler fuses by itself, Keras's own is what runs.

    Args:
        **kwargs: of `keras.optimizers.Adam`.

    Reference: Kingma and Ba, 2015, algorithm 1, in the order of computation that ends its section 2.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.amsgrad or keras.backend.backend() != "tensorflow" or hasattr(gradient, "indices"):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        place = self._get_variable_index(variable)
        beta_1, beta_2, epsilon, rate, gradient, step = (
            tf.cast(number, variable.dtype)
            for number in (self.beta_1, self.beta_2, self.epsilon, learning_rate, gradient, self.iterations + 1)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[place]),
            v=_handle(self._velocities[place]),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def _handle(variable: Any) -> Any:
    """A variable of Keras's or of TensorFlow's -> what TensorFlow's kernels take for it."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
