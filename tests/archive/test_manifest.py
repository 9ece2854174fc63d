"""Listings of inputs and the manifest: order, shards of bounded work, and what changed since."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive import conftest  # noqa: F401 - skips without pyarrow

from checks import needs_unicode_names
from kerastag.archive.listing import LISTING_SCHEMA, list_inputs
from kerastag.archive.manifest import Manifest


def make_files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def make_listing(names, size=10):
    count = len(names)
    return pa.table([sorted(names), [size] * count, [1] * count, pa.nulls(count, pa.string())], schema=LISTING_SCHEMA)


def list_paths(inputs, base, **options):
    return list_inputs(inputs, base, **options)["path"].to_pylist()


def test_inputs_are_listed_once_and_sorted(tmp_path):
    make_files(tmp_path, "a/b.wav", "a/B.flac", "a/.hidden.wav", "a/c/d.MP3", "a/notes.txt", "e.wav")
    assert list_paths(["a", "e.wav", "a/b.wav"], tmp_path) == ["a/B.flac", "a/b.wav", "a/c/d.MP3", "e.wav"]
    assert list_paths(["a/*.wav", "*.wav"], tmp_path) == ["a/b.wav", "e.wav"]
    assert list_paths(["a/**/*.MP3"], tmp_path) == ["a/c/d.MP3"]
    assert list_paths([str(tmp_path / "a")], "") == [
        str(tmp_path / "a" / name) for name in ("B.flac", "b.wav", "c/d.MP3")
    ]
    listing = list_inputs(["e.wav"], tmp_path).to_pylist()
    status = (tmp_path / "e.wav").stat()
    assert listing == [{"path": "e.wav", "size": 5, "modified_ns": status.st_mtime_ns, "problem": None}]


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet"])
def test_tables_have_a_column_of_paths_relative_to_their_folder(tmp_path, extension):
    make_files(tmp_path, "a/b.wav", "a/c, d.wav", "e.wav")
    paths = ["b.wav", "c, d.wav", "lost.wav", str(tmp_path / "e.wav")]
    path = tmp_path / "a" / f"list.{extension}"
    if extension == "parquet":
        pq.write_table(pa.table({"label": list("1234"), "filename": paths}), path)
    else:
        separator = "," if extension == "csv" else "\t"
        lines = [f'{k}{separator}"{name}"' for k, name in enumerate(["filename", *paths])]
        path.write_text("\n".join(["k" + lines[0][1:], *lines[1:]]) + "\n", encoding="utf-8")
    rows = {row["path"]: row["problem"] for row in list_inputs([f"a/{path.name}"], tmp_path).to_pylist()}
    expected = {"a/b.wav": None, "a/c, d.wav": None, "a/lost.wav": "no such file", str(tmp_path / "e.wav"): None}
    assert rows == expected
    with pytest.raises(ValueError, match="must have a column of paths, name; received: "):
        list_inputs([str(path)], tmp_path, "name")


@needs_unicode_names
def test_a_table_written_on_another_computer_names_files_in_another_form(tmp_path):
    make_files(tmp_path, "cafe\u0301.wav")
    (tmp_path / "list.csv").write_text("path\ncaf\u00e9.wav\n", encoding="utf-8")
    assert list_paths(["list.csv"], tmp_path) == ["cafe\u0301.wav"]


def test_bad_inputs_are_named(tmp_path):
    make_files(tmp_path, "a/notes.txt", "bad.parquet")
    for name, message in {
        "lost": "lost: no such file or folder",
        "*.wav": r"\*.wav: no file matches",
        "a": "a: must have audio files",
        "bad.parquet": "bad.parquet: must be a complete Parquet table",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            list_inputs([name], tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user without all permissions")
def test_a_folder_that_cannot_be_read_is_a_row(tmp_path):
    make_files(tmp_path, "a/b.wav", "a/secret/c.wav")
    (tmp_path / "a" / "secret").chmod(0)
    try:
        rows = list_inputs(["a"], tmp_path).to_pylist()
    finally:
        (tmp_path / "a" / "secret").chmod(0o755)
    assert [(row["path"], row["problem"]) for row in rows] == [
        ("a/b.wav", None),
        ("a/secret", "cannot be read (Permission denied)"),
    ]


def test_shards_have_bounded_work_and_never_change(tmp_path):
    manifest = Manifest(tmp_path)
    sizes = [5, 5, 5, 100, 1, 1, 1, 1]
    listing = make_listing("abcdefgh").set_column(1, LISTING_SCHEMA.field("size"), pa.array(sizes))
    manifest.extend(listing, max_files=3, max_bytes=10)
    slices = {shard: files["path"].to_pylist() for shard, files in manifest.get_slices()}
    assert slices == {0: ["a", "b"], 1: ["c"], 2: ["d"], 3: ["e", "f", "g"], 4: ["h"]}
    manifest.extend(make_listing(["a0", "z"]), max_files=1, max_bytes=10)
    again = {shard: files["path"].to_pylist() for shard, files in Manifest(tmp_path).get_slices()}
    assert again == {**slices, 5: ["a0"], 6: ["z"]}


def test_a_new_listing_is_compared_with_the_manifest(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.extend(make_listing("abcd"), max_files=2, max_bytes=100)
    assert [len(each) for each in vars(manifest.compare(make_listing("abcd"))).values()] == [0, 0, 0]
    listing = pa.concat_tables([make_listing("bc"), make_listing("d", size=11), make_listing("e")])
    changes = manifest.compare(listing)
    assert changes.added["path"].to_pylist() == ["e"]
    assert changes.changed["path"].to_pylist() == ["d"]
    assert changes.removed.to_pylist() == ["a"]
    assert manifest.find_shards(changes) == [0, 1]
    manifest.update(changes)
    rows = [(row["path"], row["size"], row["shard"]) for row in Manifest(tmp_path).table.to_pylist()]
    assert rows == [("b", 10, 0), ("c", 10, 1), ("d", 11, 1)]


def test_a_problem_and_an_unknown_size_are_compared_too(tmp_path):
    manifest = Manifest(tmp_path)
    rows = [{"path": "a", "size": None, "modified_ns": None, "problem": "no such file"}, {"path": "b"}]
    listing = pa.Table.from_pylist(rows, schema=LISTING_SCHEMA)
    manifest.extend(listing, max_files=9, max_bytes=9)
    assert not len(manifest.compare(listing).changed)
    assert manifest.compare(make_listing("ab")).changed["path"].to_pylist() == ["a", "b"]


def test_a_damaged_manifest_is_named(tmp_path):
    Manifest(tmp_path).extend(make_listing("ab"), max_files=1, max_bytes=1)
    path = tmp_path / "manifest" / "part-000000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"part-000000.parquet: damaged; restore it, or use another output folder"):
        Manifest(tmp_path)
