"""PyTorch files: tensors are read exactly; hostile and damaged files are rejected, and never run."""

import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from importers.torch_writing import (
    finish_pickle,
    pickle_content,
    pickle_dictionary,
    pickle_name,
    pickle_tensor,
    pickle_value,
    write_torch_stream,
    write_torch_zip,
)

from checks import SHARED
from kerastag.importers import TorchFile

ARRAYS = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.array([0.5, -2.0], np.float16),
    "double": np.array([[1.25]]),
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


# A list that holds a list twice, and so on: 2**60 elements in 300 bytes.
NESTED_LISTS = pickle.EMPTY_LIST + b"".join(
    pickle.BINPUT + bytes([i]) + pickle.POP + b"(" + 2 * (pickle.BINGET + bytes([i])) + pickle.LIST for i in range(60)
)


def read_all(path):
    with TorchFile(path) as file:
        return {name: file.read(tensor) for name, tensor in file.list_tensors().items()}


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
@pytest.mark.parametrize("entry", [None, "model", "state_dict"])
def test_tensors_are_read_exactly(write, entry, tmp_path):
    arrays = read_all(write(tmp_path / "a.pt", ARRAYS, entry))
    assert arrays.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[key], array)
        assert arrays[key].dtype == array.dtype


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
def test_numpy_state_beside_the_weights_is_skipped(write, tmp_path):
    reconstruct = pickle_name("numpy.core.multiarray", "_reconstruct") + pickle.MARK + pickle_name("numpy", "ndarray")
    sampler = (
        reconstruct
        + pickle_value((0,))
        + pickle_value(b"b")
        + pickle.TUPLE
        + pickle.REDUCE
        + pickle_value((1, (3,)))
        + pickle.BUILD
    )
    arrays = read_all(write(tmp_path / "a.pth", ARRAYS, "model", iteration=pickle_value(600000), sampler=sampler))
    np.testing.assert_array_equal(arrays["weight"], ARRAYS["weight"])


def test_transposed_tensors_are_read(tmp_path):
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    path = write_torch_zip(tmp_path / "a.pt", {"a": transposed})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_content({"a": transposed}, None))
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(read_all(path)["a"], transposed)


def test_bfloat16_is_widened(tmp_path):
    path = tmp_path / "a.pt"
    pickled = pickle_content({"a": np.zeros(2, np.float16)}, None).replace(b"HalfStorage", b"BFloat16Storage")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes())
    np.testing.assert_array_equal(read_all(path)["a"], np.array([1.5, -2.0], np.float32))


class Attack:
    """An object that runs a command when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_malicious_file_is_rejected_and_nothing_runs(form, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    attack = pickle.dumps({"model": Attack(marker)}, protocol=2)
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", attack)
    else:
        write_torch_stream(path, ARRAYS)
        start = path.read_bytes()
        path.write_bytes(start[: start.index(b"weight")].rpartition(b"\x80\x02")[0] + attack)
    with pytest.raises(
        ValueError, match=r"evil\.pth: must hold plain data and tensors only; received: `posix\.system`$"
    ):
        TorchFile(path)
    assert not marker.exists()
    pickle.loads(attack)  # An ordinary unpickler runs the command.
    assert marker.exists()


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (
            pickle_name("builtins", "eval") + pickle_value(("1",)) + pickle.REDUCE,
            "tensors only; received: `builtins.eval`",
        ),
        (pickle_value("os") + pickle_value("system") + pickle.STACK_GLOBAL, "tensors only; received: `os.system`"),
        (
            pickle_name("torch", "FloatStorage") + pickle_value((3,)) + pickle.REDUCE,
            "received: a call of `torch.FloatStorage`",
        ),
        (
            pickle_name("collections", "OrderedDict") + pickle_value({"keys": 1}) + pickle.BUILD,
            "received: the state of an object that is not a dict",
        ),
        (
            pickle_name("collections", "OrderedDict") + pickle_value(()) + pickle.NEWOBJ,
            "instruction NEWOBJ is not allowed",
        ),
        (NESTED_LISTS + pickle_value("a") + pickle.STACK_GLOBAL, "a name that is not a short text"),
        (pickle_value("a" * 300) + pickle_value("b") + pickle.STACK_GLOBAL, "a name that is not a short text"),
        (pickle_value({5: 1}), "names of tensors must be short text; received: a int"),
        (pickle_value({"a" * 300: 1}), "names of tensors must be short text; received: a long name, aaaa"),
        (b"cos\nsystem\n", "tensors only; received: `os.system`"),
        (b"(S'x'\nios\nsystem\n", "instruction INST is not allowed"),
        (
            pickle.EMPTY_DICT + pickle_value(()) + pickle.TUPLE1 * 50 + pickle_value(1) + pickle.SETITEM,
            "key of type tuple",
        ),
        (pickle_value("x") + pickle.BINPERSID, "a storage without its description"),
        (pickle.LONG_BINGET + b"\xff\xff\xff\x7f", "damaged pickle"),
        (
            pickle_value(1) + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f",
            "must hold a dictionary of tensors; received: an object of type int",
        ),
        (pickle.MARK, "a mark in place of a value"),
        (b"", "damaged pickle"),
        (pickle_value({"a": 1}), "must hold tensors only; received: other entries: a"),
        (pickle_value({}), "must hold tensors only; received: an empty dictionary"),
    ],
)
def test_pickles_without_weights_are_rejected(instructions, message, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", finish_pickle(instructions))
    with pytest.raises(ValueError, match=message) as raised:
        read_all(path)
    assert str(path) in str(raised.value)


def make_view(offset, shape, strides, stored=12):
    """Return the pickle of a tensor of any offset, shape and strides over twelve numbers."""
    valid = pickle_tensor("0", ARRAYS["weight"])
    view = pickle_value(0) + pickle_value((3, 4)) + pickle_value((4, 1))
    assert view in valid
    pickled = valid.replace(view, pickle_value(offset) + pickle_value(shape) + pickle_value(strides))
    return pickled.replace(pickle_value(12), pickle_value(stored))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (make_view(1, (3, 4), (4, 1)), "extends beyond its storage `0`"),
        (make_view(0, (3, 4), (5, 1)), "extends beyond its storage"),
        (make_view(0, (10**9,), (0,)), "extends beyond its storage"),
        (make_view(0, (2**40, 2**40), (0, 0)), "extends beyond its storage"),
        (make_view(-1, (3,), (1,)), "a tensor with an impossible shape"),
        (make_view(0, (3,), (-1,)), "a tensor with an impossible shape"),
        (make_view(0, (3, 4), (1,)), "a tensor with an impossible shape"),
        (make_view(0, (3,), (1,), stored=10**12), "storage `0` must have 4000000000000 bytes; received: 48"),
    ],
)
def test_tensors_beyond_their_storage_are_rejected(view, message, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", finish_pickle(pickle_dictionary({"a": view})))
        archive.writestr("archive/data/0", ARRAYS["weight"].tobytes())
    with pytest.raises(ValueError, match=message):
        read_all(path)


def test_compressed_members_are_rejected_before_they_are_decompressed(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle_content(ARRAYS, None))
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(ValueError, match=r"member `archive/data.pkl` must be uncompressed"):
        read_all(path)


def test_a_member_that_claims_more_bytes_than_the_file_has_is_rejected(tmp_path):
    path = write_torch_zip(tmp_path / "a.pt", ARRAYS)
    content = path.read_bytes().replace(struct.pack("<II", 48, 48), struct.pack("<II", 2**31, 2**31))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"member `archive/data/0` must be uncompressed and of a plausible size"):
        read_all(path)


@pytest.mark.parametrize("opcode", [pickle.BINUNICODE8, pickle.BINBYTES8, pickle.LONG4, pickle.BINUNICODE])
def test_a_length_beyond_the_file_takes_no_memory(opcode, tmp_path):
    length = 8 if opcode in (pickle.BINUNICODE8, pickle.BINBYTES8) else 4
    (tmp_path / "a.pt").write_bytes(b"\x80\x02" + opcode + (b"\xff" * length)[:-1] + b"\x7f")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.pt: "):
        TorchFile(tmp_path / "a.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a PyTorch file; received: another format"),
        (b"RIFF....WAVE", "must be a PyTorch file; received: another format"),
        (pickle.dumps([1, 2]), "must be a PyTorch file; received: another format"),
        (b"\x80\x02", "damaged pickle|exhausted"),
    ],
)
def test_other_files_are_rejected(content, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        TorchFile(tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        TorchFile(tmp_path / "absent.pth")


def test_another_zip_is_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"must be a PyTorch file; received: a zip file without `data\.pkl`$"):
        TorchFile(tmp_path / "a.keras")


def mutate(draw, original: bytes) -> bytes:
    data = bytearray(original[: draw(st.integers(0, len(original)))] if draw(st.booleans()) else original)
    for _ in range(draw(st.integers(0 if len(data) < len(original) else 1, 8))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.fixture(params=[write_torch_zip, write_torch_stream])
def original(request, tmp_path):
    """Return the bytes of a file in either format."""
    return request.param(tmp_path / "a.pt", ARRAYS, "model", iteration=pickle_value(3)).read_bytes()


@hypothesis.settings(max_examples=200, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_a_damaged_file_is_read_or_rejected_in_one_line(original, data, tmp_path):
    (tmp_path / "b.pt").write_bytes(mutate(data.draw, original))
    arrays, message = {}, ""
    try:
        arrays = read_all(tmp_path / "b.pt")
    except ValueError as error:
        message = str(error)
    assert not message or message.startswith(f"{tmp_path / 'b.pt'}: ")
    assert sum(array.size for array in arrays.values()) < 1000


@pytest.mark.real
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_a_damaged_description_of_a_real_file_is_rejected_in_one_line(data, tmp_path):
    with zipfile.ZipFile(SHARED / "data/weights/mn04_as_mAP_432.pt") as archive:
        original = archive.read("archive/data.pkl")
    path: Path = tmp_path / "b.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", mutate(data.draw, original))
    with pytest.raises(ValueError, match="b.pt: "):
        read_all(path)
