"""PyTorch files: what they hold comes out exactly; what is hostile or damaged is refused, and never run."""

import os
import pickle
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from weights.torch_writing import (
    content_pickle,
    dictionary_pickle,
    name,
    plain,
    tensor_pickle,
    whole,
    write_torch_stream,
    write_torch_zip,
)

from checks import SHARED
from kerastag.importers.torch_file import TorchFile

ARRAYS = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.array([0.5, -2.0], np.float16),
    "double": np.array([[1.25]]),
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


def read_all(path):
    with TorchFile(path) as file:
        return {name: file.read(tensor) for name, tensor in file.tensors().items()}


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
@pytest.mark.parametrize("entry", [None, "model", "state_dict"])
def test_tensors_come_out_exactly(write, entry, tmp_path):
    found = read_all(write(tmp_path / "a.pt", ARRAYS, entry))
    assert found.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
def test_numpy_state_beside_the_weights_is_passed_over(write, tmp_path):
    reconstruct = name("numpy.core.multiarray", "_reconstruct") + pickle.MARK + name("numpy", "ndarray")
    sampler = reconstruct + plain((0,)) + plain(b"b") + pickle.TUPLE + pickle.REDUCE + plain((1, (3,))) + pickle.BUILD
    found = read_all(write(tmp_path / "a.pth", ARRAYS, "model", iteration=plain(600000), sampler=sampler))
    np.testing.assert_array_equal(found["weight"], ARRAYS["weight"])


def test_shared_and_transposed_storages(tmp_path):
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    path = write_torch_zip(tmp_path / "a.pt", {"a": transposed})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content_pickle({"a": transposed}, None))
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(read_all(path)["a"], transposed)


def test_bfloat16_is_widened(tmp_path):
    path = tmp_path / "a.pt"
    pickled = content_pickle({"a": np.zeros(2, np.float16)}, None).replace(b"HalfStorage", b"BFloat16Storage")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes())
    np.testing.assert_array_equal(read_all(path)["a"], np.array([1.5, -2.0], np.float32))


class Attack:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_malicious_file_is_refused_and_nothing_runs(form, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    attack = pickle.dumps({"model": Attack(marker)}, protocol=2)
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", attack)
    else:
        write_torch_stream(path, ARRAYS)
        start = path.read_bytes()
        path.write_bytes(start[: start.index(b"weight")].rpartition(b"\x80\x02")[0] + attack)
    with pytest.raises(ValueError, match=r"evil\.pth: refused: the file asks for `posix\.system`, which is no tensor$"):
        TorchFile(path)
    assert not marker.exists()
    pickle.loads(attack)  # the attack is real: an ordinary unpickler runs it
    assert marker.exists()


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (name("builtins", "eval") + plain(("1",)) + pickle.REDUCE, "asks for `builtins.eval`"),
        (plain("os") + plain("system") + pickle.STACK_GLOBAL, r"asks for `os.system`"),
        (name("torch", "FloatStorage") + plain((3,)) + pickle.REDUCE, "calls `torch.FloatStorage`"),
        (name("collections", "OrderedDict") + plain({"keys": 1}) + pickle.BUILD, "sets the state of what is no dict"),
        (name("collections", "OrderedDict") + plain(()) + pickle.NEWOBJ, "instruction NEWOBJ is not allowed"),
        (b"cos\nsystem\n", "asks for `os.system`"),
        (b"(S'x'\nios\nsystem\n", "instruction INST is not allowed"),
        (pickle.EMPTY_DICT + plain(()) + pickle.TUPLE1 * 50 + plain(1) + pickle.SETITEM, "key of type tuple"),
        (plain("x") + pickle.BINPERSID, "a storage without its description"),
        (pickle.LONG_BINGET + b"\xff\xff\xff\x7f", "damaged pickle"),
        (plain(1) + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f", "holds no dictionary of tensors"),
        (pickle.MARK, "a mark where a value was expected"),
        (b"", "damaged pickle"),
        (plain({"a": 1}), "entries that are no tensors: a"),
        (plain({}), "entries that are no tensors: nothing inside"),
    ],
)
def test_pickles_that_are_no_weights_are_refused(instructions, message, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", whole(instructions))
    with pytest.raises(ValueError, match=message) as raised:
        read_all(path)
    assert str(path) in str(raised.value)


def with_view(offset, shape, strides, stored=12):
    """One tensor of any offset, shape and strides over twelve numbers."""
    honest = tensor_pickle("0", ARRAYS["weight"])
    given = plain(0) + plain((3, 4)) + plain((4, 1))
    assert given in honest
    pickled = honest.replace(given, plain(offset) + plain(shape) + plain(strides))
    return pickled.replace(plain(12), plain(stored))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (with_view(1, (3, 4), (4, 1)), "reaches beyond its storage `0`"),
        (with_view(0, (3, 4), (5, 1)), "reaches beyond its storage"),
        (with_view(0, (10**9,), (0,)), "reaches beyond its storage"),
        (with_view(0, (2**40, 2**40), (0, 0)), "reaches beyond its storage"),
        (with_view(-1, (3,), (1,)), "a tensor with an impossible shape"),
        (with_view(0, (3,), (-1,)), "a tensor with an impossible shape"),
        (with_view(0, (3, 4), (1,)), "a tensor with an impossible shape"),
        (with_view(0, (3,), (1,), stored=10**12), "storage `0` has 48 bytes, not 4000000000000"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(view, message, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", whole(dictionary_pickle({"a": view})))
        archive.writestr("archive/data/0", ARRAYS["weight"].tobytes())
    with pytest.raises(ValueError, match=message):
        read_all(path)


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content_pickle(ARRAYS, None))
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(ValueError, match=r"member `archive/data.pkl` is compressed or too large"):
        read_all(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PyTorch file"),
        (b"RIFF....WAVE", "is no PyTorch file"),
        (pickle.dumps([1, 2]), "is no PyTorch file"),
        (b"\x80\x02", "damaged pickle|exhausted"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        TorchFile(tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        TorchFile(tmp_path / "absent.pth")


def test_another_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"a zip, but not one that PyTorch wrote \(no `data\.pkl` inside\)$"):
        TorchFile(tmp_path / "a.keras")


def mutated(draw, original: bytes) -> bytes:
    data = bytearray(original[: draw(st.integers(0, len(original)))] if draw(st.booleans()) else original)
    for _ in range(draw(st.integers(0 if len(data) < len(original) else 1, 8))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
@hypothesis.settings(max_examples=400, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_a_damaged_file_gives_its_tensors_or_one_clear_error(write, data, tmp_path):
    original = write(tmp_path / "a.pt", ARRAYS, "model", iteration=plain(3)).read_bytes()
    (tmp_path / "b.pt").write_bytes(mutated(data.draw, original))
    found, message = {}, ""
    try:
        found = read_all(tmp_path / "b.pt")
    except ValueError as error:
        message = str(error)
    assert not message or message.startswith(f"{tmp_path / 'b.pt'}: ")
    assert sum(array.size for array in found.values()) < 1000


@pytest.mark.real
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_a_damaged_description_of_a_real_file_gives_one_clear_error(data, tmp_path):
    with zipfile.ZipFile(SHARED / "data/weights/mn04_as_mAP_432.pt") as archive:
        original = archive.read("archive/data.pkl")
    path: Path = tmp_path / "b.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", mutated(data.draw, original))
    with pytest.raises(ValueError, match="b.pt: "):
        read_all(path)
