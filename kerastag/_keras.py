"""Every use of Keras's private API, which may change with any release; `tests/test_keras.py` notices.

The module is a leaf: it imports nothing of kerastag.
"""

from collections.abc import Iterable
from typing import Any

__all__ = ["flatten_layers", "get_averaged_variables", "list_ancestors", "sync_jax_state"]


def flatten_layers(model: Any) -> Iterable[Any]:
    """Return a model and all layers inside it, those of nested models included."""
    return model._flatten_layers()


def list_ancestors(tensor: Any) -> dict[tuple[int, int], Any]:
    """Return a symbolic tensor of a functional model and all tensors that it is computed from, in topological order.

    The keys identify a tensor within its model.
    """
    ancestors: dict[tuple[int, int], Any] = {}
    stack = [(tensor, False)]
    while stack:
        current, is_visited = stack.pop()
        operation, node_index, _ = current._keras_history
        key = (id(operation), node_index)
        if is_visited:
            ancestors.setdefault(key, current)
        elif key not in ancestors:
            inputs = operation._inbound_nodes[node_index].input_tensors
            stack += [(current, True), *((parent, False) for parent in inputs)]
    return ancestors


def get_averaged_variables(optimizer: Any) -> list[Any]:
    """Return the moving averages of the weights that an optimizer keeps; none without `use_ema`."""
    # Under mixed_float16 Keras wraps the optimizer, and the wrapper reports that it keeps no averages.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(optimizer, "_model_variables_moving_average", ())) if optimizer.use_ema else []


def sync_jax_state(model: Any) -> None:
    """Bring the variables of a model up to date within `fit` on the JAX backend."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
