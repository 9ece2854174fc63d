"""Records of TFRecord files: checksums follow their definition, and damaged files and records are named."""

import io

import numpy as np
import pytest

from kerastag.data.tfrecord_files import MAX_RECORD_BYTES, CorruptRecord, compute_crc32c, mask_crc, read_records


def compute_crc_by_definition(data):
    """Compute CRC-32C bit by bit: reflected polynomial 0x82F63B78, start and end inverted."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def make_file(*records):
    def compute_stored_crc(data):
        return int(mask_crc(np.array([compute_crc_by_definition(data)]))[0]).to_bytes(4, "little")

    parts = [(len(record).to_bytes(8, "little"), record) for record in records]
    return b"".join(
        length + compute_stored_crc(length) + record + compute_stored_crc(record) for length, record in parts
    )


def test_crc_of_known_strings():
    known = {b"123456789": 0xE3069283, bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    np.testing.assert_array_equal(compute_crc32c(list(known)), list(known.values()))
    assert compute_crc32c([]).shape == (0,)


def test_crc_of_every_length_in_one_batch():
    rng = np.random.default_rng(0)
    records = [rng.bytes(length) for length in [*range(20), 100, 1001, 3]]
    np.testing.assert_array_equal(compute_crc32c(records), [compute_crc_by_definition(record) for record in records])


def test_records_are_read_in_order():
    records = [b"first", b"", b"x" * 1500]
    read = list(read_records(io.BytesIO(make_file(*records)), "file"))
    assert [(number, record) for number, record, _ in read] == [(1, b"first"), (2, b""), (3, b"x" * 1500)]
    np.testing.assert_array_equal([crc for *_, crc in read], mask_crc(compute_crc32c(records)))
    assert list(read_records(io.BytesIO(b""), "file")) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-1], r"record 2: truncated: 9 of 10 bytes; nothing after it can be read"),
        (lambda whole: whole[:30], "record 2: truncated: 9 of 12 header bytes"),
        (lambda whole: whole[:21] + b"\x07" + whole[22:], "record 2: damaged length"),
        (lambda whole: b"<html>not a record</html>" + whole, "record 1: damaged length"),
    ],
)
def test_the_damaged_file_and_record_are_named(damage, message):
    with pytest.raises(CorruptRecord, match=f"^file: {message}") as caught:
        list(read_records(io.BytesIO(damage(make_file(b"first", b"second"))), "file"))
    assert caught.value.rest_lost


def test_a_record_that_is_too_long_is_not_read():
    with pytest.raises(CorruptRecord, match="record 1: 65537 bytes, at most 65536 are allowed"):
        list(read_records(io.BytesIO(make_file(bytes(MAX_RECORD_BYTES + 1))), "file"))
