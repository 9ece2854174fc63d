"""Models in `.keras` files: a hostile or damaged file is one line that names it, and nothing of it is built."""

import io
import json
import struct
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

from kerastag import load_model
from kerastag._keras import save_model
from kerastag.layers import AttentionPooling
from kerastag.models import MODELS

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Return the members of the file of a small network."""
    inputs = keras.Input((5, 3), name="embedding")
    x = keras.layers.Dense(4, activation="relu", name="dense")(inputs)
    x = keras.layers.Dense(2, activation="sigmoid", name="classifier")(keras.layers.Flatten()(x))
    path = tmp_path_factory.mktemp("model") / "a.keras"
    save_model(keras.Model(inputs, x), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(folder, members, *changes, method=zipfile.ZIP_STORED):
    """Write a file, whose configuration some functions change first."""
    config = json.loads(members["config.json"])
    for change in changes:
        changed = change(config)
        config = config if changed is None else changed
    path = folder / "b.keras"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {**members, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    return path


def assert_rejected(path, message):
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as raised:
        load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(raised.value).startswith(f"{path}: must be a Keras model; received: ")
    assert "\n" not in str(raised.value)
    assert peak < 100_000_000


def change_layer(index, **values):
    def change(config):
        config["config"]["layers"][index].update(values)

    return change


def change_argument(index, **arguments):
    def change(config):
        config["config"]["layers"][index]["config"].update(arguments)

    return change


def test_a_changed_configuration_that_is_harmless_is_loaded(members, tmp_path):
    model = load_model(write(tmp_path, members, change_argument(1, activation="tanh")))
    assert model.get_layer("dense").activation is keras.activations.tanh


FUNCTION = {"module": "builtins", "class_name": "function", "config": "print", "registered_name": "function"}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}
ATTACKS = [
    change_layer(1, class_name="Lambda", config={"function": LAMBDA, "name": "dense"}),
    change_layer(1, class_name="TFSMLayer", config={"filepath": "/tmp", "name": "dense"}),
    change_layer(1, class_name="StringLookup", config={"vocabulary": "/etc/passwd", "name": "dense"}),
    change_layer(1, class_name="TorchModuleWrapper", config={"module": "x", "name": "dense"}),
    change_layer(1, module="keras.utils", class_name="get_file", config={"origin": "http://127.0.0.1/x"}),
    change_layer(1, module="os", class_name="system", config={}),
    change_layer(1, module="keras.src.layers.core.dense", class_name="Dense"),
    change_layer(1, class_name=["Dense"]),
    change_layer(1, registered_name="kerastag>Dense"),
    change_layer(1, registered_name="kerastag>LogMel"),
    change_layer(1, class_name="LogMel", module="kerastag.layers.log_mel", registered_name="kerastag>MaxPooling"),
    change_layer(1, compile_config={"optimizer": "adam"}),
    change_layer(1, spec_name="x"),
    change_argument(1, activation=FUNCTION),
    change_argument(1, activation=LAMBDA),
    change_argument(1, activation="kerastag>LogMel"),
    change_argument(1, activation={"module": "keras.activations"}),
    change_argument(1, kernel_initializer={"module": "builtins", "class_name": "open", "config": {}}),
    change_argument(1, build_from="x"),
    change_argument(1, kernel_regularizer={"class_name": "__typespec__", "config": [], "module": "os"}),
    change_argument(1, kernel_regularizer={"class_name": "__numpy__", "config": {"value": 1, "dtype": "O"}}),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_other_classes_and_arguments_are_rejected_before_anything_is_built(attack, members, tmp_path, monkeypatch):
    path = write(tmp_path, members, attack)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras has read the file"))
    assert_rejected(path, "must have|must be|must not be")


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        (change_argument(1, units=60_000), r"layers with more weights than the 58 in the file"),
        (change_argument(1, units=10**9), r"`units` must be at most 65,536; received: 1e\+09"),
        (change_argument(0, batch_shape=[None, 10**12, 3]), r"`batch_shape` must be at most 67,108,864 numbers"),
        (change_argument(0, batch_shape=[None, -1, 3]), "`batch_shape` must be"),
        (change_argument(0, batch_shape="x"), "`batch_shape` must be"),
        (change_argument(1, name="a" * 1_000), "`name` must be short text; received: 'aaaa"),
        (lambda config: config["config"]["layers"].extend(config["config"]["layers"] * 600), "at most 2,000 layers"),
        (lambda _: [], "`config.json` must be the configuration of a network"),
        (lambda _: {"a": 1}, "`config.json` must be the configuration of a network"),
    ],
)
def test_networks_that_are_larger_than_their_file_are_rejected(bomb, message, members, tmp_path):
    assert_rejected(write(tmp_path, members, bomb), message)


def test_a_recurrent_layer_is_not_unrolled(tmp_path):
    inputs = keras.Input((5, 3))
    path = tmp_path / "a.keras"
    save_model(keras.Model(inputs, keras.layers.GRU(2, unroll=True)(inputs)), path)
    assert_rejected(path, "`unroll` of GRU must be false")


def write_weights(write_datasets, source=b""):
    file = io.BytesIO(source)
    with h5py.File(file, "a" if source else "w") as weights:
        write_datasets(weights)
    return file.getvalue()


def write_virtual(weights):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    weights.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.create_dataset("a", (10**10,), "f4", compression="gzip"), "`/a` must be numbers .* whole"),
        (
            lambda w: w.create_dataset("a", (10**10,), "f4"),
            r"stored whole .*; received: float32 of shape \(1000",
        ),
        (lambda w: w.create_dataset("a", data="text"), "`/a` must be numbers"),
        (lambda w: w.create_dataset("a", (3,), "f4", external=[("/etc/passwd", 0, 12)]), "`/a` must be numbers"),
        (write_virtual, "`/a` must be numbers"),
        (lambda w: w.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")), "must be in this file.*ExternalLink"),
        (lambda w: w.__setitem__("a", h5py.SoftLink("/layers")), "must be in this file; received: SoftLink"),
    ],
)
def test_weights_that_are_elsewhere_or_compressed_are_rejected(damage, message, members, tmp_path):
    assert_rejected(write(tmp_path, {**members, WEIGHTS: write_weights(damage)}), message)


def test_the_name_of_a_type_that_hdf5_would_read_forever_is_rejected(members, tmp_path):
    """Keras reads the attribute `dtype` of weights, whose text is in a collection of values."""
    content = write_weights(lambda w: w.create_dataset("a", data=np.zeros(3)).attrs.update(dtype="bfloat16"))
    size = content.index(b"GCOL") + 24
    damaged = content[:size] + struct.pack("<Q", 200) + content[size + 8 :]
    assert_rejected(write(tmp_path, {**members, WEIGHTS: damaged}), "collection of values .* has an object of 0 bytes")
    number = write_weights(lambda w: w.create_dataset("a", data=np.zeros(3)).attrs.update(dtype=3))
    assert_rejected(write(tmp_path, {**members, WEIGHTS: number}), "attribute dtype of `/a` must be text")


def test_weights_in_a_cycle_are_read_once(members, tmp_path):
    content = write_weights(lambda weights: weights.__setitem__("cycle", weights["/"]), members[WEIGHTS])
    path = write(tmp_path, {**members, WEIGHTS: content})
    assert load_model(path).count_params() == 58


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assets/a.txt": b"x"}, "must hold config.json, metadata.json, model.weights.h5; received: assets/a.txt"),
        ({"model.weights.npz": b"x"}, "must hold .*; received: .*npz"),
        ({"../../evil": b"x"}, "must hold .*; received: ../../evil"),
    ],
)
def test_other_members_are_rejected(changes, message, members, tmp_path):
    assert_rejected(write(tmp_path, {**members, **changes}), message)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_compressed_members_are_rejected_before_they_are_decompressed(name, members, tmp_path):
    path = write(tmp_path, members)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            is_bomb = member == name
            method = zipfile.ZIP_DEFLATED if is_bomb else zipfile.ZIP_STORED
            archive.writestr(member, bytes(200_000_000) if is_bomb else content, method)
    assert_rejected(path, f"member `{name}` must be uncompressed and of a plausible size")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_members_that_exist_twice_are_rejected(members, tmp_path):
    path = write(tmp_path, members)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    assert_rejected(path, "must hold .*; received: config.json, config.json")


def test_files_of_other_formats_are_rejected(members, tmp_path):
    other = write(tmp_path, members).rename(tmp_path / "b.h5")
    assert_rejected(other, "must be a .keras file; received: another format")
    with h5py.File(tmp_path / "c.keras", "w") as file:
        file["a"] = np.zeros(3)
    assert_rejected(tmp_path / "c.keras", "must be a .keras file; received: another format")
    with pytest.raises(FileNotFoundError, match="d.keras: no such file"):
        load_model(tmp_path / "d.keras")


def test_a_damaged_byte_anywhere_is_at_most_one_line_that_names_the_file(members, tmp_path):
    content = write(tmp_path, members).read_bytes()
    path, messages = tmp_path / "c.keras", []
    rng = np.random.default_rng(0)
    for position in rng.choice(len(content), 60, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load_model(path)  # Some bytes, such as those of an unused part of the file of weights, carry nothing.
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", ["es_average", "jdc", "feature_attention", "talnet", "gl_at_at_sca", "vggish"])
def test_every_kind_of_network_passes_the_checks(name, tmp_path):
    options = {"width": 0.0625} if name in ("talnet", "gl_at_at_sca", "vggish") else {"units": 8}
    model = MODELS[name].build(**options, **({} if name == "vggish" else {"num_classes": 3}))
    save_model(model, tmp_path / "a.keras")
    assert load_model(tmp_path / "a.keras").count_params() == model.count_params()


def test_an_own_layer_passes_the_checks(tmp_path):
    inputs = [keras.Input((5, 3)), keras.Input((5, 3))]
    save_model(keras.Model(inputs, AttentionPooling()(inputs)), tmp_path / "a.keras")
    assert load_model(tmp_path / "a.keras").count_params() == 0
