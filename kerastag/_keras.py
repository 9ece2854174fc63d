"""Every use of Keras's private API, which may change with any release; `tests/test_keras.py` notices."""

import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kerastag.files import atomic_path

__all__ = ["flatten_layers", "get_averaged_variables", "list_ancestors", "save_model", "sync_jax_state"]


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


def save_model(model: Any, path: Path) -> None:
    """Save a model as a `.keras` file, with the same bytes for the same model.

    Keras stores the time, and addresses in memory as the numbers of objects that are used several times.
    """
    model.save(path)
    with (
        atomic_path(path) as temporary_path,
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(temporary_path, "w") as target,
    ):
        for member in source.infolist():
            new_member = zipfile.ZipInfo(member.filename)
            new_member.file_size = member.file_size
            if member.filename in ("config.json", "metadata.json"):
                content = json.loads(source.read(member))
                content.pop("date_saved", None)
                _renumber_shared_objects(content, {})
                target.writestr(new_member, json.dumps(content))
            else:
                with source.open(member) as old, target.open(new_member, "w") as new:
                    shutil.copyfileobj(old, new)


def _renumber_shared_objects(value: Any, numbers: dict[int, int]) -> None:
    """Give shared objects numbers in the order of their first use."""
    if isinstance(value, dict):
        if isinstance(number := value.get("shared_object_id"), int):
            value["shared_object_id"] = numbers.setdefault(number, len(numbers))
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _renumber_shared_objects(item, numbers)
