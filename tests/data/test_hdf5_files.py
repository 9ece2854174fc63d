"""HDF5 files of other people: text that HDF5 would read forever or crash on is refused."""

import io
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag._hdf5 import HeapCheckedFile
from kerastag.data import open_pack
from kerastag.data.hdf5_files import read_attributes


def write_pack(path, names, **attributes):
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((len(names), 4, 5), np.uint8)
        file["y"] = np.ones((len(names), 2), bool)
        file["video_id_list"] = names
        file.attrs.update(attributes)
    return path


def change(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def find_collection(path):
    content = path.read_bytes()
    assert content.count(b"GCOL") == 1
    return content.index(b"GCOL")


@pytest.mark.parametrize("names", [["first clip", "second clip"], np.array([b"a", b"b"])], ids=["names", "attribute"])
@pytest.mark.parametrize(("length", "received"), [(200, "an object of 0 bytes"), (2**62, "an object of 4,611")])
def test_text_whose_sizes_lead_into_zeros_is_refused(tmp_path, names, length, received):
    """HDF5 would follow the sizes forever, which no signal handler of Python can end."""
    path = write_pack(tmp_path / "a.h5", names, **({} if isinstance(names, list) else {"note": "a text"}))
    start = find_collection(path) + 16
    with path.open("r+b") as file:
        file.seek(start + 8)
        file.write(struct.pack("<Q", length))
    with pytest.raises(ValueError, match=rf"^{path}: not an HDF5 file, truncated or damaged \(.*{received}"):
        open_pack(path)


def test_a_collection_that_claims_gigabytes_is_refused(tmp_path):
    path = write_pack(tmp_path / "a.h5", ["a", "b"])
    with path.open("r+b") as file:
        file.seek(find_collection(path) + 8)
        file.write(struct.pack("<Q", 2**40))
    with pytest.raises(ValueError, match=rf"^{path}: .* claims 1,099,511,627,776 bytes"):
        open_pack(path)


def test_an_attribute_of_a_damaged_type_is_refused_if_packs_have_it_and_left_out_otherwise(tmp_path):
    """HDF5 crashes when it reads one."""
    for name in ("class_names", "unknown"):
        path = write_pack(tmp_path / f"{name}.h5", [b"a"], **{name: '["a", "b"]'})
        string_type = b"\x19\x01\x01\x00\x10\0\0\0"  # class 9, version 1; kind 1, text in UTF-8; 16 bytes
        change(path, string_type, string_type.replace(b"\x19\x01", b"\x19\x08"))
    with pytest.raises(ValueError, match=r"class_names\.h5: .*attribute class_names: must be text or a number"):
        open_pack(tmp_path / "class_names.h5")
    with open_pack(path) as pack:
        assert pack.attributes == {}


def test_chunks_of_other_dimensions_than_the_data_are_refused(tmp_path):
    """HDF5 would read forever."""
    path = write_pack(tmp_path / "a.h5", [b"a"])
    with h5py.File(path, "r+") as file:
        del file["y"]
        file.create_dataset("y", data=np.zeros((1, 2), bool), maxshape=(None, None), chunks=(7, 5))
    chunked = b"\x03\x02\x03"  # version 3, in chunks, of two dimensions and the size of a value
    sizes = struct.pack("<III", 7, 5, 1)
    content = path.read_bytes()
    position = content.index(sizes) - 11
    assert content[position : position + 3] == chunked
    path.write_bytes(content[: position + 2] + b"\x02" + content[position + 3 :])
    expected = "must have chunks of 2 dimensions; received: 1"
    if h5py.version.hdf5_version_tuple >= (2, 0, 0):  # which does not open the array
        expected = "must be an array that HDF5 can read; received: a damaged one"
    with pytest.raises(ValueError, match=f"a.h5: key y: {expected}"):
        open_pack(path)


def test_attributes_are_read_as_they_were_written(tmp_path):
    values = {"text": "é" * 5_000, "number": 3, "fraction": 0.5, "flag": True, "bytes": np.bytes_(b"a"), "list": [1, 2]}
    path = write_pack(tmp_path / "a.h5", [b"a"], **values, kinds=["one", "two"])
    with h5py.File(path) as file:
        attributes = read_attributes(file)
    assert attributes.pop("kinds").tolist() == ["one", "two"]
    assert attributes.pop("list").tolist() == [1, 2]
    assert attributes == {key: value for key, value in values.items() if key != "list"}


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4_096), min_size=1, max_size=9))
def test_text_of_any_length_is_read(tmp_path_factory, lengths):
    names = ["x" * length for length in lengths]
    path = write_pack(tmp_path_factory.mktemp("packs") / "a.h5", names, class_names='["a", "b"]')
    with open_pack(path) as pack:
        assert [name.decode() for name in pack.ids.tolist()] == names
        assert pack.labels.names == ("a", "b")


def test_a_pack_in_memory_is_read_through_the_checked_file():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["a"], file["x"] = "text", np.arange(9)
    with h5py.File(HeapCheckedFile(content)) as file:
        assert file.attrs["a"] == "text"
        assert file["x"][:].tolist() == list(range(9))
