"""Opening and concatenating packs: kinds and classes are recognized, and every row is in its place."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from checks import ROOT, run_python
from kerastag.data import AudioPack, ConcatenatedPacks, FeaturePack, FeaturePackWriter, open_pack
from kerastag.labels import LabelSet


def write_features(path, num_classes=2, **attributes):
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((3, 4, 5), np.uint8)
        file["y"] = np.ones((3, num_classes), bool)
        file["video_id_list"] = np.array([b"a", b"b", b"c"])
        file.attrs.update(attributes)
    return path


def write_waveforms(path, **attributes):
    with h5py.File(path, "w") as file:
        file["audio_name"] = np.array([b"a", b"b"])
        file["waveform"] = np.arange(20, dtype=np.int16).reshape(2, 10)
        file["target"] = np.eye(2, dtype=bool)
        file.attrs.update(attributes)
    return path


def test_packs_of_both_kinds_are_opened(tmp_path):
    with open_pack(write_features(tmp_path / "features.h5")) as pack:
        assert isinstance(pack, FeaturePack)
        assert isinstance(pack.x, np.ndarray)
        assert (pack.x_shape, pack.num_classes, pack.skipped) == ((3, 4, 5), 2, ())
        assert repr(pack) == f"FeaturePack({str(pack.path)!r}, 3 clips, 2 classes)"
    with open_pack(tmp_path / "features.h5", in_memory=False) as pack:
        assert not isinstance(pack.x, np.ndarray)
    with open_pack(write_waveforms(tmp_path / "audio.h5", sample_rate=8_000)) as pack:
        assert isinstance(pack, AudioPack)
        assert (pack.x_shape, pack.num_classes, pack.skipped, pack.sample_rate) == ((2, 10), 2, (), 8_000)
        assert pack.lengths.tolist() == [10, 10]
        assert pack.ids.tolist() == [b"a", b"b"]
        np.testing.assert_array_equal(pack.rows([1, 0])[0], [range(10, 20), range(10)])
    with open_pack(write_waveforms(tmp_path / "audio.h5")) as pack:
        assert pack.sample_rate == 32_000


@pytest.mark.parametrize("write", [write_features, write_waveforms])
def test_labels_are_those_of_the_attributes(tmp_path, write):
    names, mids = ["dog", "rain"], ["/m/dog", "/m/rain"]
    with open_pack(write(tmp_path / "names.h5", class_names=json.dumps(names))) as pack:
        assert pack.labels == LabelSet.from_names(names)
    attributes = {"class_names": json.dumps(names), "class_mids": json.dumps(mids)}
    with open_pack(write(tmp_path / "mids.h5", **attributes)) as pack:
        assert pack.labels == LabelSet(mids, names)


def test_labels_without_attributes_are_audiosets_or_numbered(tmp_path):
    with open_pack(write_features(tmp_path / "audioset.h5", num_classes=527)) as pack:
        assert pack.labels == LabelSet.audioset()
    with open_pack(write_features(tmp_path / "other.h5")) as pack:
        assert pack.labels.names == ("class 0", "class 1")


def test_missing_and_faulty_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5: no such file"):
        open_pack(tmp_path / "none.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["z"] = [1]
    with pytest.raises(ValueError, match=r"foreign\.h5: key x is missing: not a pack \(its keys are: z\)"):
        open_pack(tmp_path / "foreign.h5")


def test_importing_the_package_loads_no_framework():
    code = (
        "import sys, kerastag.data\n"
        "assert 'open_pack' in dir(kerastag.data) and 'open_pack' in kerastag.data.__all__\n"
        "print([name for name in ('h5py', 'keras', 'tensorflow', 'numpy', 'soundfile') if name in sys.modules])"
    )
    assert run_python(code) == "[]\n"


def test_every_public_name_exists():
    import kerastag.data

    names = [name for name in kerastag.data.__all__ if name not in ("FeaturePackReport", "pack_features")]
    assert all(getattr(kerastag.data, name) is not None for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = kerastag.data.nothing


COUNTS = (5, 1, 70)


def write(path, num_clips, seed, num_classes=3, features=4, dtype="uint8"):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (num_clips, 6, features)).astype(dtype)
    with FeaturePackWriter(path, num_classes=num_classes, num_segments=6, num_features=features, dtype=dtype) as writer:
        targets = random.random((num_clips, num_classes)) < 0.5
        writer.append(x, random.integers(1, 7, num_clips), targets, [f"{seed}_{i}" for i in range(num_clips)])
        writer.finish()
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["in memory", "on disk"])
def packs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    opened = [
        FeaturePack(write(folder / f"{seed}.h5", count, seed), in_memory=request.param)
        for seed, count in enumerate(COUNTS)
    ]
    yield opened
    for pack in opened:
        pack.close()


def test_rows_of_the_packs_follow_one_another(packs):
    concatenated = ConcatenatedPacks(packs)
    assert len(concatenated) == sum(COUNTS)
    assert concatenated.x_shape == (76, 6, 4)
    assert concatenated.num_classes == 3
    parts = [pack.rows(np.arange(len(pack))) for pack in packs]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    np.testing.assert_array_equal(concatenated.lengths, whole[1])
    np.testing.assert_array_equal(concatenated.targets, whole[2])
    # In any order, across packs, and repeated.
    for indices in (np.arange(76), np.array([75, 0, 5, 4, 6, 5, 5, 75]), np.array([5]), np.array([], np.int64)):
        for column, expected in zip(concatenated.rows(indices), whole, strict=True):
            assert column.dtype == expected.dtype
            np.testing.assert_array_equal(column, expected[indices])
    indices = np.array([3, 3, 69])
    for column, expected in zip(ConcatenatedPacks(packs[2:]).rows(indices), packs[2].rows(indices), strict=True):
        np.testing.assert_array_equal(column, expected)


def test_a_row_out_of_range_is_refused(packs):
    for wrong in (-1, 76):
        with pytest.raises(IndexError, match=rf"`indices` must be in \[0, 76\); received: {wrong}"):
            ConcatenatedPacks(packs).rows(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("change", "layout"),
    [
        ({"num_classes": 4}, "uint8 embeddings of 6 segments and 4 features with 4 classes"),
        ({"features": 8}, "uint8 embeddings of 6 segments and 8 features with 3 classes"),
        ({"dtype": "float32"}, "float32 embeddings of 6 segments and 4 features with 3 classes"),
    ],
)
def test_a_pack_with_another_layout_is_named(packs, tmp_path, change, layout):
    other = FeaturePack(write(tmp_path / "other.h5", 2, 9, **change))
    with pytest.raises(ValueError, match=rf"other.h5: must hold uint8 .* as .*0.h5; received: {layout}"):
        ConcatenatedPacks([packs[0], other])


def test_packs_that_are_damaged_or_made_to_mislead_are_refused_by_path():
    command = [sys.executable, "-W", "error", "benchmarks/faults", "--quick", "packs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "packs with links, bombs" in result.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file: file.attrs.update(class_names='["a"]'),
            "attribute class_names: must name 2 classes, .*: 1",
        ),
        (lambda file: file.attrs.update(class_names="{"), "attribute class_names: Expecting property name"),
        (lambda file: file.attrs.update(class_names="5"), "attribute class_names: must be a JSON list"),
        (lambda file: file.attrs.update(sample_rate="fast"), "attribute sample_rate: must be an integer above 0 Hz"),
        (lambda file: replace(file, num_samples=[2.5, 3]), "key num_samples: must be integers; received: float64"),
        (lambda file: replace(file, target=[["a"], ["b"]]), "key target: must be 0 or 1; received: object"),
        (lambda file: replace(file, target=[[0], [2]]), "key target, row 1: labels must be 0 or 1"),
        (lambda file: replace(file, audio_name=[1, 2]), "key audio_name: must be text; received: int64"),
        (lambda file: replace(file, audio_name=["x" * 9999, ""]), "key audio_name: names must have at most 4096 bytes"),
        (
            lambda file: replace(file, waveform=h5py.ExternalLink("other.h5", "waveform")),
            "key waveform: must be stored in the file; received: ExternalLink",
        ),
        (
            lambda file: (file.__delitem__("target"), file.create_dataset("target", (2, 1 << 40), bool, chunks=(2, 8))),
            r"key target: truncated or damaged: bool \(2, 1099511627776\) does not fit into the 0 bytes",
        ),
    ],
)
def test_a_misleading_pack_is_refused_with_its_path_and_key(tmp_path, change, message):
    write_waveforms(tmp_path / "other.h5")
    path = write_waveforms(tmp_path / "audio.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=rf"audio\.h5: {message}"):
        open_pack(path)


def replace(file, **values):
    for key, value in values.items():
        if key in file:
            del file[key]
        file[key] = value
