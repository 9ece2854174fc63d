"""Opening packs: the kind is recognized, and the classes of a pack are decided in one place."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from kerastag.data import AudioPack, FeaturePack, open_pack, write_synthetic_packs
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
        file["waveform"] = np.ones((2, 10), np.int16)
        file["target"] = np.eye(2, dtype=bool)
        file.attrs.update(attributes)
    return path


def test_packs_of_both_kinds_are_opened(tmp_path):
    with open_pack(write_features(tmp_path / "features.h5")) as pack:
        assert isinstance(pack, FeaturePack)
        assert isinstance(pack.x, np.ndarray)
        assert (pack.x_shape, pack.num_classes, pack.skipped) == ((3, 4, 5), 2, ())
    with open_pack(tmp_path / "features.h5", in_memory=False) as pack:
        assert not isinstance(pack.x, np.ndarray)
    with open_pack(write_waveforms(tmp_path / "audio.h5", sample_rate=8_000)) as pack:
        assert isinstance(pack, AudioPack)
        assert (pack.x_shape, pack.num_classes, pack.skipped, pack.sample_rate) == ((2, 10), 2, (), 8_000)
        assert pack.lengths.tolist() == [10, 10]
        assert pack.ids.tolist() == [b"a", b"b"]


def test_the_sample_rate_of_a_pack_without_the_attribute_is_32_khz(tmp_path):
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
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ValueError, match=r"text\.h5: not an HDF5 file, truncated or damaged"):
        open_pack(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["z"] = [1]
    with pytest.raises(ValueError, match=r"foreign\.h5: key x is missing: not a pack \(its keys are: z\)"):
        open_pack(tmp_path / "foreign.h5")


def test_a_pack_describes_itself(tmp_path):
    path = write_synthetic_packs(tmp_path, num_train=9, num_eval=3, num_classes=3, num_features=4)["eval"]
    with open_pack(path) as pack:
        assert repr(pack) == f"FeaturePack({str(path)!r}, 3 clips, 3 classes)"


def test_importing_the_package_loads_no_framework():
    code = (
        "import sys, kerastag.data\n"
        "assert 'open_pack' in dir(kerastag.data) and 'open_pack' in kerastag.data.__all__\n"
        "print([name for name in ('h5py', 'keras', 'tensorflow', 'numpy', 'soundfile') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_every_public_name_exists():
    import kerastag.data

    names = [name for name in kerastag.data.__all__ if name not in ("FeaturePackReport", "pack_features")]
    assert all(getattr(kerastag.data, name) is not None for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = kerastag.data.nothing
