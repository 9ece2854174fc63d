"""Checks of a `.keras` file before Keras builds anything from it.

Keras builds whatever the configuration names, with memory for whatever it asks. A file is accepted only if its members,
classes, arguments and weights are those of a network that kerastag may have written, and as large as they claim.
"""

import functools
import inspect
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import h5py
import keras

import kerastag.layers
from kerastag._hdf5 import HeapCheckedFile

__all__ = ["check_saved_model", "check_weights", "limit_weights"]

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_CARD = "kerastag.json"
_MAX_JSON_BYTES = 4 * 2**20
_MAX_LAYERS = 2_000
_MAX_OBJECTS_IN_WEIGHTS = 100_000
_MAX_INPUT_SIZE = 2**26
_MAX_INTEGER = 2**16
_MAX_INTEGERS = {
    "padding": 64,
    "num_sub_clips": 256,
    **dict.fromkeys(("shape", "input_shape", "target_shape", "newshape", "sample_rate"), _MAX_INPUT_SIZE),
    "seed": 2**63,
}

_OBJECT_KEYS = {"module", "class_name", "config", "registered_name", "build_config", "compile_config", "name"}
_OBJECT_KEYS |= {"inbound_nodes", "shared_object_id"}
_COMMON_ARGUMENTS = {"name", "trainable", "dtype", "zero_output_for_mask", "rms_scaling"}  # not in signatures
_LAYERS = """
Activation Add Average AveragePooling1D AveragePooling2D BatchNormalization Bidirectional Concatenate Conv1D Conv2D
Dense DepthwiseConv2D Dropout Flatten GRU GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D
GlobalMaxPooling2D InputLayer LayerNormalization Masking MaxPooling1D MaxPooling2D Maximum Minimum Multiply Permute ReLU
Reshape Softmax Subtract ZeroPadding1D ZeroPadding2D
"""
_INITIALIZERS = "GlorotNormal GlorotUniform HeNormal HeUniform Ones Orthogonal RandomNormal RandomUniform Zeros"
_OPERATIONS = """
Abs Absolute Add Any Concatenate Divide ExpandDims Matmul Max Maximum Mean Min Minimum Multiply NotEqual Pad Reshape
Sqrt Square Squeeze Stack Subtract Sum Transpose
"""
_CLASSES: dict[str, Any] = {
    **{f"keras.layers.{name}": getattr(keras.layers, name) for name in _LAYERS.split()},
    **{f"keras.initializers.{name}": getattr(keras.initializers, name) for name in _INITIALIZERS.split()},
    **dict.fromkeys((f"keras.src.ops.numpy.{name}" for name in _OPERATIONS.split()), None),
    "keras.src.ops.core.Cast": None,
    "keras.DTypePolicy": None,
    "keras.Sequential": None,
    "keras.src.models.functional.Functional": None,
}
"""Classes by module and name; None for those whose arguments Keras takes from a saved configuration by name."""


def check_saved_model(path: Path) -> int:
    """Check a `.keras` file, and return the number of its weights.

    Raises:
        ValueError: The file is damaged, is too large for what it contains, or holds other things than a network of
            kerastag.
    """
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError("must be a .keras file; received: another format")
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        names = sorted(member.filename for member in archive.infolist() if member.filename != _CARD)
        if names != sorted(_MEMBERS):
            raise ValueError(f"must hold {', '.join(sorted(_MEMBERS))}; received: {', '.join(names)[:200]}")
        for name in _MEMBERS:
            member, max_size = members[name], _MAX_JSON_BYTES if name.endswith(".json") else size
            # As Keras writes them; a compressed member could become a thousand times as large.
            is_stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
            if not is_stored or member.file_size > min(max_size, size):
                raise ValueError(f"member `{name}` must be uncompressed and of a plausible size")
        _check_configuration(json.loads(archive.read("config.json")))
        with archive.open("model.weights.h5") as file:
            return check_weights(cast(BinaryIO, file))


def check_weights(file: BinaryIO) -> int:
    """Check a binary file of weights in HDF5, and return their number.

    Raises:
        ValueError: The file refers to other files, or its numbers are compressed or missing.
    """
    with h5py.File(HeapCheckedFile(file), "r") as weights:
        groups: list[h5py.Group] = [weights]
        addresses: set[int] = set()
        num_weights = 0
        while groups:
            group = groups.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"`{group.name}/{name}` must be in this file; received: {type(link).__name__}")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in addresses:
                    continue
                addresses.add(address)
                if len(addresses) > _MAX_OBJECTS_IN_WEIGHTS:
                    raise ValueError(f"must have at most {_MAX_OBJECTS_IN_WEIGHTS:,} arrays of weights; received: more")
                if isinstance(item, h5py.Group):
                    groups.append(item)
                else:
                    _check_type_attribute(item)
                    num_weights += _count_numbers(item)
    return num_weights


@contextmanager
def limit_weights(max_weights: int) -> Iterator[None]:
    """Raise a ValueError before layers are built in the block that cannot have `max_weights` weights.

    Twice as many are allowed, since `Bidirectional` copies the layers that it is built from.
    """
    add_weight = keras.Layer.add_weight
    num_weights = 0

    def add_limited_weight(self: keras.Layer, shape: Any = None, *args: Any, **options: Any) -> Any:
        nonlocal num_weights
        num_weights += math.prod([shape] if isinstance(shape, int) else shape or ())
        if num_weights > 2 * max_weights:
            raise ValueError(f"layers with more weights than the {max_weights:,} in the file")
        return add_weight(self, shape, *args, **options)

    keras.Layer.add_weight = add_limited_weight
    try:
        yield
    finally:
        keras.Layer.add_weight = add_weight


def _check_type_attribute(dataset: h5py.Dataset) -> None:
    """Raise a ValueError if Keras would not return from reading the name of the type of weights."""
    if "dtype" in dataset.attrs:
        if dataset.attrs.get_id("dtype").get_type().get_class() != h5py.h5t.STRING:
            raise ValueError(f"attribute dtype of `{dataset.name}` must be text")
        dataset.attrs["dtype"]  # checked by the file


def _count_numbers(dataset: h5py.Dataset) -> int:
    is_plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external
    count = math.prod(dataset.shape or ())
    is_whole = dataset.dtype.kind in "fiub" and dataset.id.get_storage_size() == count * dataset.dtype.itemsize
    if not is_plain or not is_whole:
        shape = f"{dataset.dtype} of shape {dataset.shape}"
        raise ValueError(f"`{dataset.name}` must be numbers that are stored whole and uncompressed; received: {shape}")
    return count


def _check_configuration(config: Any) -> None:
    """Check the configuration of a network, whose own compilation is not loaded."""
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError("`config.json` must be the configuration of a network; received: another value")
    checked: list[tuple[str, Any]] = [("", {**config, "compile_config": None})]
    num_layers = 0
    while checked:
        key, value = checked.pop()
        if isinstance(value, dict) and value.keys() & {"class_name", "module", "registered_name"}:
            num_layers += "inbound_nodes" in value
            if num_layers > _MAX_LAYERS:
                raise ValueError(f"must have at most {_MAX_LAYERS:,} layers; received: more")
            checked += _check_object(value).items()
        elif isinstance(value, dict):
            checked += value.items()
        elif isinstance(value, list):
            checked += ((key, item) for item in value)
        else:
            _check_value(key, value)


def _check_object(value: dict[str, Any]) -> dict[str, Any]:
    """Check the class of an object and the names of its arguments, and return what it contains."""
    module, class_name, arguments = value.get("module"), value.get("class_name"), value.get("config")
    name = f"{module}.{class_name}" if module else class_name
    if not isinstance(class_name, str) or not isinstance(arguments, dict):
        raise ValueError(f"`class_name` and `config` must be text and a dictionary; received: {value!r:.80}")
    if unknown := sorted(value.keys() - _OBJECT_KEYS):
        raise ValueError(f"the configuration of {name:.80} must have no key `{unknown[0]:.80}`")
    if value.get("compile_config"):  # Keras would build what it names.
        raise ValueError(f"`compile_config` of {name:.80} must be empty")
    if name == "__keras_tensor__":
        if arguments.keys() != {"shape", "dtype", "keras_history"}:
            raise ValueError("`__keras_tensor__` must have shape, dtype and keras_history")
        return {"input_shape": arguments["shape"], **arguments}
    registered_name = value.get("registered_name")
    own_class = keras.saving.get_registered_object(registered_name) if isinstance(registered_name, str) else None
    is_own = registered_name == f"kerastag>{class_name}" and class_name in kerastag.layers.__all__
    if not (is_own and own_class) and (name not in _CLASSES or own_class or registered_name not in (None, class_name)):
        raise ValueError(f"must have only layers of kerastag and simple ones of Keras; received: {name:.80}")
    layer_class = own_class or _CLASSES[str(name)]
    if layer_class is not None and (unknown := sorted(arguments.keys() - _list_arguments(layer_class))):
        raise ValueError(f"{class_name} must have no argument `{unknown[0]:.80}`")
    if class_name == "GRU" and arguments.get("unroll"):
        raise ValueError("`unroll` of GRU must be false")
    # The layer checks the constants of a front end, some of which are large.
    contents = {key: item for key, item in arguments.items() if key not in ("batch_shape", "front_end")}
    batch_shape = arguments.get("batch_shape")
    if batch_shape is not None:
        _check_input_shape(batch_shape)
    return {**contents, "inbound_nodes": value.get("inbound_nodes"), "build_config": value.get("build_config")}


@functools.cache
def _list_arguments(layer_class: type) -> frozenset[str]:
    return frozenset(inspect.signature(layer_class).parameters) | _COMMON_ARGUMENTS


def _check_input_shape(shape: Any) -> None:
    sizes: list[Any] = [size for size in shape if size is not None] if isinstance(shape, list) else [None]
    if not all(type(size) is int and size > 0 for size in sizes) or math.prod(sizes) > _MAX_INPUT_SIZE:
        raise ValueError(f"`batch_shape` must be at most {_MAX_INPUT_SIZE:,} numbers; received: {shape!r:.80}")


def _check_value(key: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > 200:
        raise ValueError(f"`{key:.80}` must be short text; received: {value[:40]!r}…")
    if isinstance(value, str) and keras.saving.get_registered_object(value) is not None:
        raise ValueError(f"`{key:.80}` must not be the name of a class; received: {value!r}")
    if isinstance(value, int) and abs(value) > _MAX_INTEGERS.get(key, _MAX_INTEGER):
        raise ValueError(f"`{key:.80}` must be at most {_MAX_INTEGERS.get(key, _MAX_INTEGER):,}; received: {value:.3g}")
