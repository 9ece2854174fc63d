"""Packing AudioSet's TFRecord files, intact and damaged in many ways, from a folder and from a tar."""

import io
import shutil
import tarfile

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from checks import SHARED, needs_shared  # noqa: E402
from kerastag.data import tfrecord  # noqa: E402
from kerastag.data.feature_pack_writer import verify_digest  # noqa: E402
from kerastag.data.packs import FeaturePack  # noqa: E402
from kerastag.data.tfrecord import pack_features  # noqa: E402
from kerastag.data.tfrecord_files import CorruptRecord  # noqa: E402

FILES = {"bal_train": ["--", "-0", "Zz", "_a", "aa"], "eval": ["00", "zz"]}


def make_example(name, labels, segments):
    """Make a record as in AudioSet."""
    feature = tf.train.Feature
    context = {
        "video_id": feature(bytes_list=tf.train.BytesList(value=[name])),
        "start_time_seconds": feature(float_list=tf.train.FloatList(value=[0.0])),
        "labels": feature(int64_list=tf.train.Int64List(value=labels)),
    }
    bags = [feature(bytes_list=tf.train.BytesList(value=[bytes(segment)])) for segment in segments]
    return tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list={"audio_embedding": tf.train.FeatureList(feature=bags)}),
    ).SerializeToString()


def make_random_record(rng, name):
    segments = rng.integers(0, 256, (int(rng.integers(1, 11)), 128)).astype(np.uint8)
    return name, sorted(rng.choice(527, int(rng.integers(1, 4)), replace=False).tolist()), segments


def write_records(path, serialized):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized:
            writer.write(record)


@pytest.fixture(scope="module")
def content():
    rng = np.random.default_rng(0)
    return {
        (split, file): [make_random_record(rng, f"{file}{i:09d}".encode()) for i in range(3 + len(file) * k)]
        for split, files in FILES.items()
        for k, file in enumerate(files)
    }


@pytest.fixture(scope="module")
def pristine(content, tmp_path_factory):
    top = tmp_path_factory.mktemp("download")
    for (split, file), records in content.items():
        path = top / "audioset_v1_embeddings" / split / f"{file}.tfrecord"
        write_records(path, [make_example(*record) for record in records])
    return top


@pytest.fixture
def folder(pristine, tmp_path):
    """Copy the files, so that a test can damage them."""
    return shutil.copytree(pristine, tmp_path / "download")


def make_tar(path, folder, order=sorted):
    with tarfile.open(path, "w:gz") as tar:
        for file in order(folder.rglob("*.tfrecord")):
            tar.add(file, file.relative_to(folder))
    return path


def pack(source, output, **options):
    return pack_features(source, output, progress=False, **options)


@pytest.fixture(scope="module")
def reports(pristine, tmp_path_factory):
    return pack(pristine, tmp_path_factory.mktemp("packs"))


def test_every_record_is_packed_in_order(content, reports):
    assert list(reports) == ["bal_train", "eval"]
    for split, report in reports.items():
        expected = [record for file in sorted(FILES[split]) for record in content[split, file]]
        with FeaturePack(report.path) as opened:
            assert opened.ids.tolist() == [name for name, *_ in expected]
            for row, (_, labels, segments) in enumerate(expected):
                assert opened.lengths[row] == len(segments)
                np.testing.assert_array_equal(opened.x[row, : len(segments)], segments)
                assert not opened.x[row, len(segments) :].any()
                assert np.flatnonzero(opened.targets[row]).tolist() == labels
            np.testing.assert_array_equal(report.clips_per_class, opened.targets.sum(axis=0))
            assert opened.attributes["split"] == split
            assert "CC BY 4.0" in opened.attributes["license"]
        assert report.num_clips == len(expected)
        assert report.num_short_clips == sum(len(segments) < 10 for *_, segments in expected)
        assert report.digest == verify_digest(report.path)
        assert report.digest in str(report)
        assert report.skipped == ()


@pytest.mark.parametrize("form", ["inner", "split", "tar", "unsorted tar"])
def test_every_form_of_source_gives_the_same_digest(pristine, reports, tmp_path, form):
    inner = pristine / "audioset_v1_embeddings"
    if "tar" in form:
        order = sorted if form == "tar" else lambda files: sorted(files, key=lambda file: file.name[::-1])
        source = make_tar(tmp_path / "features.tar.gz", pristine, order)
    else:
        source = inner if form == "inner" else inner / "bal_train"
    packed = pack(source, tmp_path / "packs")
    assert len(packed) == (1 if form == "split" else 2)
    for split, report in packed.items():
        assert report.digest == reports[split].digest == verify_digest(report.path)


def test_only_the_given_splits_are_packed(pristine, tmp_path):
    assert list(pack(pristine, tmp_path, splits=["eval"])) == ["eval"]
    assert [path.name for path in tmp_path.iterdir()] == ["eval.h5"]
    with pytest.raises(ValueError, match=r"`splits` must be among bal_train, unbal_train, eval; received: 'test'"):
        pack(pristine, tmp_path, splits=["test"])
    with pytest.raises(FileNotFoundError, match=r"no unbal_train/\*\.tfrecord in it"):
        pack(pristine, tmp_path, splits=["eval", "unbal_train"])
    tar = make_tar(tmp_path / "features.tar.gz", pristine)
    with pytest.raises(ValueError, match="no readable record of the split unbal_train"):
        pack(tar, tmp_path, splits=["eval", "unbal_train"])


def damage_byte(path, position):
    whole = bytearray(path.read_bytes())
    whole[position] ^= 0xFF
    path.write_bytes(whole)


def insert(path, *extra):
    """Insert records after the first one of a file."""
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    write_records(path, [records[0], *extra, *records[1:]])


def make_other_example(**features):
    context = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=context)).SerializeToString()


DAMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"record \d+: truncated", 1),
    "byte in a record": (lambda path: damage_byte(path, 500), "record 1: damaged: its CRC32C does not match", 1),
    "byte in a length": (lambda path: damage_byte(path, 0), "record 1: damaged length", None),
    "no TFRecord": (lambda path: path.write_bytes(b"<html>404</html>"), "record 1: damaged length", None),
    "wide": (
        lambda path: insert(path, make_example(b"n", [1], [bytes(129)])),
        "record 2: a segment of 129 features",
        0,
    ),
}


@pytest.mark.parametrize(("name", "kind"), [*((name, "folder") for name in DAMAGES), ("truncated", "tar")])
def test_damaged_records_are_errors_or_skipped(content, folder, tmp_path, name, kind):
    change, message, lost = DAMAGES[name]
    change(folder / "audioset_v1_embeddings" / "bal_train" / "Zz.tfrecord")
    source = folder if kind == "folder" else make_tar(tmp_path / "features.tar.gz", folder)
    options = {"splits": ["bal_train"]}
    with pytest.raises(CorruptRecord, match=rf"bal_train/Zz\.tfrecord: {message}") as caught:
        pack(source, tmp_path / "packs", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "packs" / "bal_train.h5").exists()
    report = pack(source, tmp_path / "packs", skip_corrupt=True, **options)["bal_train"]
    missing = len(content["bal_train", "Zz"]) if lost is None else lost
    assert report.num_clips == sum(len(content["bal_train", file]) for file in FILES["bal_train"]) - missing
    assert len(report.skipped) == 1
    assert "Zz.tfrecord: record" in report.skipped[0]
    verify_digest(report.path)


FAULTY_RECORDS = {
    b"\xff\xff\xff\xff\xff": "not a tf.train.SequenceExample",
    make_other_example(image=b"x"): "no context feature `video_id` (it has: image)",
    make_example(b"n", [1], []): "no feature list `audio_embedding`",
    make_example(b"n", [], [bytes(128)]): "no context feature `labels`",
    make_other_example(video_id=b"n", labels=b"x"): "a feature of another type",
    make_example(b"n", [1], [bytes(128), bytes(129)]): "a segment of 129 features, 128 are expected",
    make_example(b"n", [1], [bytes(64)]): "a segment of 64 features",
    make_example(b"n", [3, 527], [bytes(128)]): "label 527 is out of range",
    make_example(b"n", [-1], [bytes(128)]): "label -1 is out of range",
    make_example(b"n", [1], [bytes(128)] * 11): "11 segments, at most 10",
}


def test_every_faulty_record_of_a_file_is_named(content, folder, tmp_path):
    insert(folder / "audioset_v1_embeddings" / "eval" / "00.tfrecord", *FAULTY_RECORDS)
    with pytest.raises(CorruptRecord, match=r"eval/00\.tfrecord: record 2: not a"):
        pack(folder, tmp_path, splits=["eval"])
    report = pack(folder, tmp_path, splits=["eval"], skip_corrupt=True)["eval"]
    assert report.num_clips == sum(len(content["eval", file]) for file in FILES["eval"])
    for number, (error, reason) in enumerate(zip(report.skipped, FAULTY_RECORDS.values(), strict=True), start=2):
        assert f"eval/00.tfrecord: record {number}: {reason}" in error


def test_a_tar_that_ends_early_is_an_error_or_is_read_so_far(pristine, tmp_path):
    whole = make_tar(tmp_path / "whole.tar.gz", pristine).read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptRecord, match=r"cut\.tar\.gz: .*tfrecord: the tar is damaged or ends early"):
        pack(cut, tmp_path / "packs")
    report = pack(cut, tmp_path / "packs", skip_corrupt=True)["bal_train"]
    assert report.num_clips > 0
    assert "ends early" in report.skipped[-1]


def test_sources_without_features_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="`source`: .*nothing: no such file or folder"):
        pack(tmp_path / "nothing", tmp_path / "packs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"`source`: .*empty: no SPLIT/\*\.tfrecord in it"):
        pack(tmp_path / "empty", tmp_path / "packs")
    (tmp_path / "text.tar.gz").write_text("not a tar", encoding="utf-8")
    with pytest.raises(ValueError, match=r"`source`: .*text\.tar\.gz: not a tar with TFRecord files"):
        pack(tmp_path / "text.tar.gz", tmp_path / "packs")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("README"), io.BytesIO())
    with pytest.raises(ValueError, match=r"other\.tar: no readable record of the split bal_train or"):
        pack(tmp_path / "other.tar", tmp_path / "packs")
    write_records(tmp_path / "hollow" / "eval" / "00.tfrecord", [])
    with pytest.raises(ValueError, match="no readable record"):
        pack(tmp_path / "hollow", tmp_path / "packs")
    assert not list(tmp_path.glob("packs/*"))


def test_an_interrupted_call_is_resumed_and_gives_the_same_packs(pristine, reports, tmp_path, monkeypatch):
    add, batches = tfrecord._Packs.add, []

    def add_until_interrupted(*arguments):
        batches.append(arguments)
        if len(batches) == 4:
            raise KeyboardInterrupt
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tfrecord, "_BATCH", 2)
        patch.setattr(tfrecord, "_CHECKPOINT_ROWS", 1)
        patch.setattr(tfrecord._Packs, "add", add_until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(pristine, tmp_path)
    assert not (tmp_path / "bal_train.h5").exists()
    resumed_files = tfrecord._Packs.count_finished_files
    counts = []
    with monkeypatch.context() as patch:
        patch.setattr(
            tfrecord._Packs, "count_finished_files", lambda *args: counts.append(resumed_files(*args)) or counts[-1]
        )
        packed = pack(pristine, tmp_path)
    assert max(counts) > 0
    assert [report.digest for report in packed.values()] == [report.digest for report in reports.values()]
    assert [report.path.read_bytes() for report in packed.values()] == [
        report.path.read_bytes() for report in reports.values()
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bal_train.h5", "eval.h5"]


def test_a_split_without_readable_records_is_skipped_or_refused(folder, tmp_path):
    for path in (folder / "audioset_v1_embeddings" / "eval").glob("*.tfrecord"):
        write_records(path, [b"\xff\xff"])
    reports = pack(folder, tmp_path / "packs", skip_corrupt=True)
    assert list(reports) == ["bal_train"]
    with pytest.raises(ValueError, match="no readable record of the split eval"):
        pack(folder, tmp_path / "packs", skip_corrupt=True, splits=["eval"])
    with pytest.raises(CorruptRecord, match=r"00\.tfrecord: record 1: not a tf\.train\.SequenceExample"):
        pack(folder, tmp_path / "packs", splits=["eval"])


def test_a_large_file_is_read_in_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_BATCH", 40)
    rng = np.random.default_rng(1)
    records = [make_random_record(rng, b"n%09d" % i) for i in range(100)]
    write_records(tmp_path / "eval" / "all.tfrecord", [make_example(*record) for record in records])
    report = pack(tmp_path / "eval", tmp_path / "packs")["eval"]
    with FeaturePack(report.path) as opened:
        assert opened.ids.tolist() == [name for name, *_ in records]


@pytest.mark.real
@needs_shared
def test_real_features(tmp_path):
    reports = pack(SHARED / "data" / "audioset" / "features.tar.gz", tmp_path)
    counts = {
        split: (one.num_clips, one.num_short_clips, one.clips_per_class.min(), one.clips_per_class.max())
        for split, one in reports.items()
    }
    assert counts == {"bal_train": (22160, 378, 59, 6244), "eval": (20371, 395, 59, 5695)}
    assert {split: one.digest for split, one in reports.items()} == {
        "bal_train": "f1e2397c8cedc5b55dc6bb80135d516ace44ff3e63da8def0b0008108b23c5ff",
        "eval": "9afcb2db67fd689a2d1dce96c2cf7da56965664d80619aad0723e76c031308e3",
    }
    for split, one in reports.items():
        assert verify_digest(one.path) == one.digest
        with FeaturePack(one.path, in_memory=False) as opened:
            labels_per_clip = opened.targets.sum(axis=1).mean()
        assert labels_per_clip == pytest.approx({"bal_train": 2.39, "eval": 2.54}[split], abs=5e-3)
