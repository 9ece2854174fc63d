"""Packs with changed bytes, and packs that are made to mislead: links, bombs, wrong types, shapes and names.

A pack must be read, or refused by a ValueError that begins with its path, in seconds and without much memory.
"""

import json
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from _kills import call_in_child, limit_time

from kerastag.data import FeaturePackWriter, compute_digest, count_clips, open_pack, pack_waveforms, verify_digest
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.labels import LabelSet

_MAX_BYTES = 1 << 30
_MAX_SECONDS = 20


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Read the packs in memory and on disk; `quick` changes fewer bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, write, tries in (("features", write_features, 1000), ("waveforms", write_waveforms, 500)):
            yield _change_bytes(kind, write(Path(folder) / f"{kind}.h5"), tries // 12 if quick else tries)
        yield _read_hostile(Path(folder))


def write_features(path: Path) -> Path:
    """Write a pack of 40 embeddings with names of three classes."""
    random = np.random.default_rng(0)
    attributes = {"class_names": json.dumps(["Bark", "Rain", "Speech"])}
    with FeaturePackWriter(path, num_classes=3, num_segments=4, num_features=8, attributes=attributes) as writer:
        x = random.integers(0, 256, (40, 4, 8)).astype(np.uint8)
        writer.append(x, np.full(40, 4), random.random((40, 3)) < 0.5, [b"clip%07d" % i for i in range(40)])
        writer.finish()
    return path


def write_waveforms(path: Path) -> Path:
    """Write a pack of six waveforms with labels of two classes."""
    clips = tuple(Recording(Path(f"{i}.wav"), f"{i}.wav", (i % 2,)) for i in range(6))
    recordings = AudioList(clips, LabelSet.from_names(["even", "odd"]), (), "synthetic")
    options = {"sample_rate": 1_000, "clip_seconds": 0.1, "fingerprint": "", "progress": False}
    pack_waveforms(recordings, lambda i: np.full(90, i / 10, np.float32), path, **options)
    return path


def _change_bytes(kind: str, path: Path, tries: int) -> tuple[str, int, int, str]:
    random, content, reasons = np.random.default_rng(0), path.read_bytes(), []
    for number in range(tries):
        changed = bytearray(content)
        for position in random.integers(0, len(content) if number % 2 else 3_000, random.integers(1, 9)):
            changed[position] = random.integers(0, 256)
        mutant = path.with_name(f"mutant_{kind}.h5")
        mutant.write_bytes(changed[: random.integers(1, len(content))] if number % 10 == 9 else changed)
        if status := call_in_child(lambda: _check_pack(mutant)):  # noqa: B023
            reasons.append(f"mutant {number}: status {status}")
    return f"a pack of {kind} with changed bytes", tries, len(reasons), "; ".join(reasons[:3])


def _read_hostile(folder: Path) -> tuple[str, int, int, str]:
    tries, reasons = 0, []
    (folder / "secret").write_bytes(b"x" * 10_000)
    for write in (write_features, write_waveforms):
        for name, change in HOSTILE.items():
            tries += 1
            path = write(folder / "hostile.h5")
            with h5py.File(path, "r+") as file:
                change(file)
            if status := call_in_child(lambda: _check_pack(path, must_fail=True)):  # noqa: B023
                reasons.append(f"{name}: status {status}")
    return "packs with links, bombs, wrong types, shapes and names", tries, len(reasons), "; ".join(reasons)


def _check_pack(path: Path, must_fail: bool = False) -> None:
    """Read a pack in all ways, and raise unless each error of a reader is a ValueError that begins with the path."""
    resource.setrlimit(resource.RLIMIT_AS, (_get_address_space() + _MAX_BYTES,) * 2)
    limit_time(_MAX_SECONDS)
    readers = {
        "in memory": _read_all,
        "on disk": lambda path: _read_all(path, in_memory=False),
        "digest": compute_digest,
        "verified digest": verify_digest,
        "counts": count_clips,
    }
    refused = set()
    for name, read in readers.items():
        try:
            read(path)
        except ValueError as error:
            if not str(error).startswith(f"{path}: ") or not str(error).isprintable():
                raise RuntimeError(f"{name}: {error}") from error
            refused.add(name)
    if must_fail and not {"in memory", "on disk"} <= refused:
        raise RuntimeError("the pack was accepted")


def _read_all(path: Path, **options: Any) -> None:
    with open_pack(path, **options) as pack:
        pack.rows(range(len(pack)))
        assert len(pack.labels) == pack.num_classes
        pack.ids.tolist()


def _get_address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize()


def _replace(file: h5py.File, index: int, value: Any, **options: Any) -> None:
    key = _get_keys(file)[index]
    del file[key]
    if isinstance(value, h5py.Datatype | h5py.ExternalLink | h5py.SoftLink) or not options:
        file[key] = value
    else:
        file.create_dataset(key, data=value, **options)


def _get_keys(file: h5py.File) -> tuple[str, ...]:
    """Return the keys of clips, labels, names and lengths."""
    if "x" in file:
        return "x", "y", "video_id_list", "num_segments"
    return "waveform", "target", "audio_name", "num_samples"


def _claim_rows(file: h5py.File, rows: int, **options: Any) -> None:
    for key in _get_keys(file):
        dataset = file[key]
        shape, dtype = (rows, *dataset.shape[1:]), dataset.dtype
        del file[key]
        file.create_dataset(key, shape, dtype, chunks=(64, *shape[1:]), **options)


def _link_outside(file: h5py.File) -> None:
    shape, dtype = file[_get_keys(file)[0]].shape, file[_get_keys(file)[0]].dtype
    del file[_get_keys(file)[0]]
    secret = str(Path(file.filename).with_name("secret"))
    size = int(np.prod(shape)) * dtype.itemsize
    file.create_dataset(_get_keys(file)[0], shape, dtype, external=[(secret, 0, size)])


def _make_virtual(file: h5py.File) -> None:
    key = _get_keys(file)[0]
    layout = h5py.VirtualLayout(file[key].shape, file[key].dtype)
    layout[...] = h5py.VirtualSource(str(Path(file.filename).with_name("features.h5")), "x", file[key].shape)
    del file[key]
    file.create_virtual_dataset(key, layout)


def _repeat_bytes(file: h5py.File) -> None:
    shape, dtype = (1 << 30, *file[_get_keys(file)[0]].shape[1:]), file[_get_keys(file)[0]].dtype
    del file[_get_keys(file)[0]]
    file.create_dataset(_get_keys(file)[0], shape, dtype, chunks=(64, *shape[1:]), compression="gzip")[:64] = 0


HOSTILE: dict[str, Callable[[h5py.File], object]] = {
    "clips are missing": lambda file: file.__delitem__(_get_keys(file)[0]),
    "labels are missing": lambda file: file.__delitem__(_get_keys(file)[1]),
    "names are missing": lambda file: file.__delitem__(_get_keys(file)[2]),
    "clips are a group": lambda file: (file.__delitem__(_get_keys(file)[0]), file.create_group(_get_keys(file)[0])),
    "lengths are a group": lambda file: (file.__delitem__(_get_keys(file)[3]), file.create_group(_get_keys(file)[3])),
    "lengths are text": lambda file: _replace(file, 3, np.array([b"4"] * len(file[_get_keys(file)[0]]))),
    "lengths are fractions": lambda file: _replace(file, 3, np.full(len(file[_get_keys(file)[0]]), 2.5)),
    "lengths are not numbers": lambda file: _replace(file, 3, np.full(len(file[_get_keys(file)[0]]), np.nan)),
    "lengths are 0": lambda file: _replace(file, 3, np.zeros(len(file[_get_keys(file)[0]]), int)),
    "names are numbers": lambda file: _replace(file, 2, np.zeros(len(file[_get_keys(file)[0]]))),
    "names are references": lambda file: _replace(
        file, 2, np.array([file.ref] * len(file[_get_keys(file)[0]]), h5py.ref_dtype)
    ),
    "a name of a megabyte": lambda file: _replace(
        file, 2, ["x" * (1 << 20)] + ["x"] * (len(file[_get_keys(file)[0]]) - 1)
    ),
    "labels are text": lambda file: _replace(file, 1, np.full(file[_get_keys(file)[1]].shape, b"1")),
    "labels are 2": lambda file: _replace(file, 1, np.full(file[_get_keys(file)[1]].shape, 2)),
    "labels are not numbers": lambda file: _replace(file, 1, np.full(file[_get_keys(file)[1]].shape, np.nan)),
    "labels are compound": lambda file: _replace(
        file, 1, np.zeros(file[_get_keys(file)[1]].shape, [("a", int), ("b", int)])
    ),
    "labels of other clips": lambda file: _replace(file, 1, np.zeros((1, 2), bool)),
    "an empty dataset": lambda file: _replace(file, 1, h5py.Empty("b")),
    "a scalar": lambda file: _replace(file, 0, np.uint8(1)),
    "arrays of variable length": lambda file: (
        file.__delitem__(_get_keys(file)[0]),
        file.create_dataset(_get_keys(file)[0], (3,), h5py.vlen_dtype(np.uint8)),
    ),
    "class names of another number": lambda file: file.attrs.update(class_names='["a"]'),
    "class names are a number": lambda file: file.attrs.update(class_names=5),
    "class names are not JSON": lambda file: file.attrs.update(class_names="{"),
    "class names are not text": lambda file: file.attrs.update(class_names="[1, 2, 3]"),
    "class names repeat": lambda file: file.attrs.update(class_names='["a", "a", "a"]'),
    "class names clear the terminal": lambda file: file.attrs.update(
        class_names=json.dumps([f"\x1b[2J{k}" for k in range(file[_get_keys(file)[1]].shape[1])])
    ),
    "an external link": lambda file: _replace(file, 0, h5py.ExternalLink("features.h5", "x")),
    "an external link to labels": lambda file: _replace(file, 1, h5py.ExternalLink("features.h5", "y")),
    "a broken link": lambda file: _replace(file, 0, h5py.SoftLink("/nothing")),
    "a link to itself": lambda file: _replace(file, 0, h5py.SoftLink(f"/{_get_keys(file)[0]}")),
    "clips in another file": _link_outside,
    "virtual clips": _make_virtual,
    "billions of rows": lambda file: _claim_rows(file, 8_000_000_000),
    "billions of compressed rows": lambda file: _claim_rows(file, 8_000_000_000, compression="gzip"),
    "a billion zeros in 1 kB": _repeat_bytes,
}
