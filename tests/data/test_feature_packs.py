"""Packs of embeddings: rows in any order, files that are not packs, and writers that are interrupted."""

import os
import shutil
import subprocess
import sys
import textwrap
import tracemalloc

import h5py
import numpy as np
import pytest

from checks import ROOT
from kerastag.data.feature_pack_writer import FeaturePackWriter, compute_digest, count_clips, verify_digest
from kerastag.data.packs import FeaturePack

CLIPS, CLASSES, FEATURES = 500, 5, 32


def make_rows(clips=CLIPS, features=FEATURES):
    rng = np.random.default_rng(0)
    num_segments = rng.integers(1, 11, clips).astype(np.uint8)
    x = rng.integers(0, 256, (clips, 10, features)).astype(np.uint8)
    x[np.arange(10) >= num_segments[:, None]] = 0
    return x, num_segments, rng.random((clips, CLASSES)) < 0.3, np.array([b"clip%06d" % i for i in range(clips)])


def write_pack(path, rows, **options):
    with FeaturePackWriter(path, num_classes=CLASSES, num_features=rows[0].shape[2], **options) as writer:
        for start in range(0, len(rows[0]), 140):
            writer.append(*(column[start : start + 140] for column in rows))
        return writer.finish()


def write_foreign(path, **changes):
    """Write a pack as the papers' authors store it, with changes; None removes a key."""
    x, _, y, ids = make_rows(30)
    with h5py.File(path, "w") as file:
        for key, value in ({"x": x, "y": y, "video_id_list": ids} | changes).items():
            if value is not None:
                file[key] = value
    return path


@pytest.fixture(scope="module")
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def pack_path(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "pack.h5"
    write_pack(path, rows, attributes={"source": "a test", "license": "CC0", "split": "test"})
    return path


def test_a_written_pack_has_the_documented_layout(rows, pack_path):
    with h5py.File(pack_path) as file:
        assert file["x"].dtype == np.uint8
        assert file["y"].dtype == bool
        assert file["y"].compression == "gzip"
        assert file["video_id_list"].dtype == "S11"
        for key, expected in zip(("x", "num_segments", "y", "video_id_list"), rows, strict=True):
            np.testing.assert_array_equal(file[key][:], expected)
        assert file.attrs["license"] == "CC0"
        assert file.attrs["format_version"] == 1
        assert file.attrs["digest"] == verify_digest(pack_path)
    assert sorted(path.name for path in pack_path.parent.iterdir()) == ["pack.h5"]
    clips, short, counts = count_clips(pack_path)
    assert (clips, short) == (CLIPS, (rows[1] < 10).sum())
    np.testing.assert_array_equal(counts, rows[2].sum(axis=0))


@pytest.mark.parametrize("in_memory", [True, False])
def test_rows_are_read_in_any_order_and_repeatedly(rows, pack_path, in_memory):
    x, num_segments, targets, ids = rows
    indices = np.random.default_rng(1).integers(0, CLIPS, 500)
    with FeaturePack(pack_path, in_memory=in_memory) as pack:
        assert len(pack) == CLIPS
        assert pack.num_classes == CLASSES
        read_columns = pack.rows(indices)
        np.testing.assert_array_equal(pack.x[:], x)
        np.testing.assert_array_equal(pack.ids, ids)
        assert pack.rows([])[0].shape == (0, 10, FEATURES)
        for wrong in (CLIPS, -1):
            with pytest.raises(IndexError, match=rf"pack\.h5: `indices` must be in \[0, {CLIPS}\); received: {wrong}"):
                pack.rows([0, wrong])
    for value, expected in zip(read_columns, (x, num_segments, targets), strict=True):
        np.testing.assert_array_equal(value, expected[indices])
        assert value.dtype == expected.dtype


@pytest.mark.parametrize("storage", [{}, {"chunks": (7, 10, 32)}, {"chunks": (9, 5, 16), "compression": "gzip"}])
def test_rows_are_read_from_disk_whatever_the_layout_of_the_file(rows, tmp_path, storage):
    x, _, y, ids = (column[:100] for column in rows)
    path = write_foreign(tmp_path / "authors.h5", x=None, y=y.astype(np.int64), video_id_list=ids)
    with h5py.File(path, "a") as file:
        file.create_dataset("x", data=x, **storage)
    indices = np.array([99, 0, 3, 3, 98, 0])
    with FeaturePack(path, in_memory=False) as pack:
        x_read, num_segments, targets = pack.rows(indices)
    np.testing.assert_array_equal(x_read, x[indices])
    np.testing.assert_array_equal(num_segments, np.full(6, 10))  # All segments are valid.
    assert targets.dtype == bool
    np.testing.assert_array_equal(targets, y[indices])


def test_clip_names_can_be_text(tmp_path):
    path = write_foreign(tmp_path / "text.h5", video_id_list=[f"name{i}" for i in range(30)])
    with FeaturePack(path) as pack:
        assert pack.ids[29] == b"name29"


def test_truncated_files_and_other_files_are_refused(pack_path, tmp_path):
    whole = pack_path.read_bytes()
    for name, content in {"cut.h5": whole[: len(whole) // 2], "text.h5": b"not HDF5", "empty.h5": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not an HDF5 file, truncated or damaged") as caught:
            FeaturePack(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damaged_labels_give_an_error_of_one_line(pack_path, tmp_path):
    with h5py.File(pack_path) as file:
        chunk = file["y"].id.get_chunk_info(0)
    content = bytearray(pack_path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    (tmp_path / "damaged.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.h5: not an HDF5 file, truncated or damaged"):
        FeaturePack(tmp_path / "damaged.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, r"key y is missing: not a pack \(its keys are: video_id_list, x\)"),
        ({"x": np.zeros((30, 1280), np.uint8)}, r"key x: must be uint8 or float32 .* received: uint8 \(30, 1280\)"),
        ({"x": np.zeros((30, 10, 128), np.int32)}, "key x: must be uint8 or float32 .* received: int32"),
        ({"y": np.zeros((29, 5), bool)}, r"key y: must be \(30, classes\) as x; received: \(29, 5\)"),
        ({"y": np.full((30, 5), 2)}, "key y, row 0: labels must be 0 or 1"),
        ({"video_id_list": np.zeros(3, "S11")}, r"key video_id_list: must have shape \(30,\) as x; received: \(3,\)"),
        ({"num_segments": np.zeros(30, np.uint8)}, r"key num_segments, row 0: must be in \[1, 10\]; received: 0"),
        ({"num_segments": np.full(30, 11)}, r"key num_segments, row 0: must be in \[1, 10\]; received: 11"),
        ({"num_segments": np.ones(29, np.uint8)}, r"key num_segments: must have shape \(30,\); received: \(29,\)"),
        (
            {"x": np.zeros((0, 10, 128), np.uint8), "y": np.zeros((0, 5), bool), "video_id_list": np.zeros(0, "S11")},
            "must hold at least one clip, segment, feature and class",
        ),
    ],
)
def test_the_faulty_dataset_of_another_file_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"foreign\.h5: {message}"):
        FeaturePack(write_foreign(tmp_path / "foreign.h5", **changes))


@pytest.mark.parametrize("in_memory", [True, False])
def test_rows_with_nan_are_refused_or_skipped_and_listed(tmp_path, in_memory):
    x = np.random.default_rng(0).normal(size=(30, 10, 8)).astype(np.float32)
    clean = write_foreign(tmp_path / "clean.h5", x=x)
    with FeaturePack(clean, in_memory=in_memory) as pack:
        assert pack.skipped == ()
        expected = pack.rows([0, 4, 6, 29])
    broken = x.copy()
    broken[5, 3, 7], broken[17, 0, 0] = np.nan, -np.inf
    path = write_foreign(tmp_path / "broken.h5", x=broken)
    with pytest.raises(ValueError, match=r"broken\.h5: key x, row 5: NaN or infinity \(2 of 30 rows have one\)"):
        FeaturePack(path, in_memory=in_memory)
    with FeaturePack(path, in_memory=in_memory, skip_corrupt=True) as pack:
        assert pack.skipped == (5, 17)
        assert len(pack) == len(pack.ids) == 28
        for value, expected_value in zip(pack.rows([0, 4, 5, 27]), expected, strict=True):
            np.testing.assert_array_equal(value, expected_value)
        if not in_memory:
            with pytest.raises(ValueError, match="rows were skipped"):
                _ = pack.x
    all_broken = write_foreign(tmp_path / "all.h5", x=np.full_like(x, np.nan))
    with pytest.raises(ValueError, match="every one of its 30 rows"):
        FeaturePack(all_broken, skip_corrupt=True)


def test_opening_from_disk_does_not_read_the_embeddings(tmp_path):
    rows = make_rows(2000, features=128)
    write_pack(tmp_path / "pack.h5", rows)
    tracemalloc.start()
    with FeaturePack(tmp_path / "pack.h5", in_memory=False) as pack:
        pack.rows(np.arange(0, 2000, 50))
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows[0].nbytes / 4


def test_the_digest_depends_on_content_and_order_but_not_on_layout(rows, pack_path, tmp_path):
    digest = compute_digest(pack_path)
    again = write_foreign(tmp_path / "other.h5", x=rows[0], y=rows[2], video_id_list=rows[3], num_segments=rows[1])
    assert compute_digest(again) == digest
    order = np.arange(CLIPS)
    order[:2] = 1, 0
    assert write_pack(tmp_path / "swapped.h5", [column[order] for column in rows]) != digest
    for position in range(4):
        changed = [column.copy() for column in rows]
        first = changed[position].reshape(CLIPS, -1)
        first[7, 0] = b"x" if position == 3 else 1 if first[7, 0] != 1 else 2 - (position == 2) * 2
        assert write_pack(tmp_path / "changed.h5", changed) != digest


def test_a_changed_byte_does_not_match_the_digest(rows, tmp_path):
    path = tmp_path / "pack.h5"
    write_pack(path, rows)
    with h5py.File(path, "a") as file:
        file["x"][123, 0, 5] ^= 1
    with pytest.raises(ValueError, match=r"pack\.h5: the content does not match its digest: \w+ stored, \w+ computed"):
        verify_digest(path)
    with pytest.raises(ValueError, match="attribute digest is missing"):
        verify_digest(write_foreign(tmp_path / "authors.h5"))


def test_long_names_widen_the_column(tmp_path):
    x, num_segments, targets, _ = make_rows(4)
    names = [b"short", b"longer than eleven", "text", b"x" * 40]
    with FeaturePackWriter(tmp_path / "pack.h5", num_classes=CLASSES, num_features=FEATURES) as writer:
        for i, name in enumerate(names):
            one = slice(i, i + 1)
            writer.append(x[one], num_segments[one], targets[one], [name])
        digest = writer.finish()
    with FeaturePack(tmp_path / "pack.h5") as pack:
        assert pack.ids.tolist() == [b"short", b"longer than eleven", b"text", b"x" * 40]
    assert verify_digest(tmp_path / "pack.h5") == digest


def test_a_writer_is_resumed_after_a_long_name(tmp_path):
    x, num_segments, targets, _ = make_rows(4)
    names = [b"short", b"longer than eleven", b"text", b"x" * 40]
    options = {"num_classes": CLASSES, "num_features": FEATURES, "fingerprint": "the source"}
    for name in ("resumed.h5", "whole.h5"):
        for stop in (2, 3, 4) if name == "resumed.h5" else (4,):
            with FeaturePackWriter(tmp_path / name, **options) as writer:
                for i in range(len(writer), stop):
                    one = slice(i, i + 1)
                    writer.append(x[one], num_segments[one], targets[one], names[one])
                    if i < 2:
                        writer.checkpoint()  # After each of the two first names, and not after the longest one.
                if stop == 4:
                    assert writer.finish()
    assert (tmp_path / "resumed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_two_writers_of_one_pack_are_refused(tmp_path):
    options = {"num_classes": CLASSES, "num_features": FEATURES}
    with FeaturePackWriter(tmp_path / "pack.h5", **options):
        with pytest.raises(BlockingIOError, match=rf"pack\.h5: is being written by process {os.getpid()}"):
            FeaturePackWriter(tmp_path / "pack.h5", **options)
        with FeaturePackWriter(tmp_path / "other.h5", **options):
            pass
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_arrays_that_do_not_fit(rows, tmp_path):
    x, num_segments, targets, ids = (column[:3] for column in rows)
    with FeaturePackWriter(tmp_path / "pack.h5", num_classes=CLASSES, num_features=FEATURES) as writer:
        with pytest.raises(ValueError, match=r"`x` must be uint8 \(clips, 10, 32\); received: float32"):
            writer.append(x.astype(np.float32), num_segments, targets, ids)
        with pytest.raises(ValueError, match=r"`targets` must have shape \(3, 5\); received: \(3, 4\)"):
            writer.append(x, num_segments, targets[:, :4], ids)
        with pytest.raises(ValueError, match="`num_segments` and `ids` must have 3 entries"):
            writer.append(x, num_segments[:2], targets, ids)
        with pytest.raises(ValueError, match=r"`num_segments` must be in \[1, 10\]; received: 0 to 2"):
            writer.append(x, [0, 1, 2], targets, ids)
        with pytest.raises(ValueError, match="no clip to write"):
            writer.finish()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="`dtype` must be uint8 or float32"):
        FeaturePackWriter(tmp_path / "pack.h5", num_classes=5, dtype="int16")
    with pytest.raises(ValueError, match=r"`num_segments` must be in \[1, 255\]; received: 0"):
        FeaturePackWriter(tmp_path / "pack.h5", num_classes=5, num_segments=0)


KILLED = """
    import os, sys
    sys.path[:0] = {paths}
    from test_feature_packs import CLASSES, FEATURES, make_rows
    from kerastag.data.feature_pack_writer import FeaturePackWriter
    rows = make_rows()
    writer = FeaturePackWriter({target!r}, num_classes=CLASSES, num_features=FEATURES, fingerprint="the source")
    for i in range(4):
        writer.append(*(column[i * 100 : (i + 1) * 100] for column in rows))
        writer.mark_file_end(f"file{{i}}", len(writer))
        if i == 2:
            writer.checkpoint()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def partial_folder(tmp_path_factory):
    """Return the partial folder of a writer that was killed after a checkpoint of three of five source files."""
    target = tmp_path_factory.mktemp("killed") / "pack.h5"
    script = textwrap.dedent(KILLED).format(
        paths=[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/data")], target=str(target)
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert not target.exists()
    return target.with_name("pack.h5.partial")


@pytest.mark.parametrize(
    "damage",
    [
        "none",
        "other source",
        "row changed",
        "rows missing",
        "no checkpoint",
        "torn checkpoint",
        "file of 0.1.0",
    ],
)
def test_a_killed_writer_is_resumed_at_its_checkpoint(rows, partial_folder, tmp_path, damage):
    target, partial = tmp_path / "pack.h5", tmp_path / "pack.h5.partial"
    shutil.copytree(partial_folder, partial)
    if damage == "row changed":
        content = bytearray((partial / "y.b1").read_bytes())
        content[7] ^= 1
        (partial / "y.b1").write_bytes(content)
    if damage == "rows missing":
        os.truncate(partial / "x.u1", 299 * 10 * FEATURES)
    if damage == "no checkpoint":
        (partial / "checkpoint.json").unlink()
    if damage == "torn checkpoint":
        (partial / "checkpoint.json").write_text('{"fingerprint": "the so', encoding="utf-8")
    if damage == "file of 0.1.0":
        shutil.rmtree(partial)
        partial.write_bytes(b"HDF5")
    fingerprint = "another source" if damage == "other source" else "the source"
    with FeaturePackWriter(target, num_classes=CLASSES, num_features=FEATURES, fingerprint=fingerprint) as writer:
        assert writer.resumed_files == (3 if damage == "none" else 0)
        assert len(writer) == 100 * writer.resumed_files
        writer.append(*(column[len(writer) :] for column in rows))
        digest = writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["pack.h5"]
    assert verify_digest(target) == digest == write_pack(tmp_path / "whole.h5", rows)
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_clips_of_unsorted_source_files_are_sorted(rows, tmp_path):
    bounds = [0, 3, 180, 180, 280, CLIPS]
    options = {"num_classes": CLASSES, "num_features": FEATURES, "fingerprint": "unsorted"}
    with FeaturePackWriter(tmp_path / "pack.h5", **options) as writer:
        for i in (3, 1, 0, 4, 2):
            writer.append(*(column[bounds[i] : bounds[i + 1]] for column in rows))
            writer.mark_file_end("abcde"[i], len(writer))
            writer.checkpoint()
        digest = writer.finish()
    assert digest == write_pack(tmp_path / "sorted.h5", rows)
    assert (tmp_path / "pack.h5").read_bytes() == (tmp_path / "sorted.h5").read_bytes()
    assert verify_digest(tmp_path / "pack.h5") == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.h5", "sorted.h5"]


def test_a_full_disk_gives_an_error_of_one_line_and_no_pack(tmp_path, limit_file_size):
    target = tmp_path / "pack.h5"
    limit_file_size(100_000)
    with pytest.raises(OSError, match="the disk is full: make room and run the same command again") as raised:
        write_pack(target, make_rows())
    assert "\n" not in str(raised.value)
    assert "pack.h5.partial" in str(raised.value)
    assert not target.exists()
