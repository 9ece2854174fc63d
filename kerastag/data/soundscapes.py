"""Weakly labeled scenes with a truth: packs to train on and to measure on, and when each event begins and ends."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from kerastag._version import __version__
from kerastag import audio
from kerastag.data.audio_lists import AudioList, Recording, read_audio_list
from kerastag.data.audio_pack_writer import pack_waveforms
from kerastag.data.packs import DEFAULT_SAMPLE_RATE
from kerastag.data.mixing import Background, Mixer, Scene, SceneRules, Sounds
from kerastag.data.recorded_sounds import RecordedBackground, RecordedSounds
from kerastag.data.splits import DEFAULT_SPLITS, Split, assign_recordings
from kerastag.labels import LabelSet

__all__ = ["DEFAULT_COUNT", "ScenesReport", "make_scenes", "write_scenes"]

DEFAULT_COUNT = 1000
_COLUMNS = ("filename", "onset", "offset", "event_label")
_JAMS_VERSION = "0.3.4"


@dataclass(frozen=True)
class ScenesReport:
    """What `write_scenes` wrote: the pack, the table of events beside it, and how many there are of each."""

    pack: Path
    events_file: Path
    scenes: int
    events: int

    def __str__(self) -> str:
        return f"{self.pack}: {self.scenes:,} scenes; {self.events_file}: {self.events:,} events"


def make_scenes(
    audio_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    list_file: str | os.PathLike[str] | None = None,
    classes: LabelSet | None = None,
    splits: Sequence[Split] = DEFAULT_SPLITS,
    counts: Mapping[str, int] | None = None,
    rules: SceneRules | None = None,
    seed: int = 0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    background_dir: str | os.PathLike[str] | None = None,
    skip_corrupt: bool = False,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = None,
) -> list[ScenesReport]:
    """A folder of recordings -> for every split, a pack of scenes mixed from its recordings, and their events.

    Args:
        audio_dir: `folder/class/*.ogg`, or where the paths of `list_file` begin.
        output: folder to write `SPLIT.h5` and `SPLIT.tsv` into.
        list_file: CSV with the columns `path,labels` and perhaps `fold`.
        classes: the classes and their order; None takes those that occur, sorted.
        splits: which recordings each split takes.
        counts: split -> how many scenes; 1,000 where nothing is said.
        rules: what scenes are like.
        seed: not negative; scenes of one seed differ between sample rates in nothing else.
        sample_rate: of the scenes, Hz.
        background_dir: folder of recordings to sound behind the events; None is noise between pink and brown.
        skip_corrupt: leave out recordings that cannot be read or are silent, and name them on standard error.
        with_audio: write `SPLIT/NAME.wav` too.
        with_jams: write `SPLIT/NAME.jams` too.
        progress: show progress bars; None where standard error is a terminal.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: an argument out of range, a recording that cannot be read, is silent or has several labels, a class
            without recordings in a split.
        OSError: the disk is full.
    """
    counts = dict(counts or {})
    if unknown := sorted(counts.keys() - {split.name for split in splits}):
        raise ValueError(f"`counts` must be of splits, received {unknown[0]!r}")
    found = RecordedSounds.listen(
        read_audio_list(audio_dir, list_file, classes=classes), skip_corrupt=skip_corrupt, progress=progress
    )
    rows = assign_recordings(found.clips, splits, seed)
    sounds = {
        split.name: found.only(rows[split.name], split.name) for split in splits
    }  # all are checked before one is written
    backgrounds: dict[str, Background] = {}
    if background_dir is not None:
        backgrounds = {s.name: RecordedBackground(background_dir, i, len(splits)) for i, s in enumerate(splits)}
    return [
        write_scenes(
            sounds[split.name],
            output,
            split.name,
            counts.get(split.name, DEFAULT_COUNT),
            sample_rate=sample_rate,
            rules=rules,
            seed=seed,
            background=backgrounds.get(split.name),
            attributes={
                "source": f"scenes of {found.clips.source}, folds {','.join(split.folds) or 'none'}, seed {seed}"
            },
            with_audio=with_audio,
            with_jams=with_jams,
            progress=progress,
        )
        for split in splits
    ]


def write_scenes(
    sounds: Sounds,
    folder: str | os.PathLike[str],
    split: str,
    count: int,
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    rules: SceneRules | None = None,
    seed: int = 0,
    background: Background | None = None,
    attributes: Mapping[str, Any] | None = None,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = None,
) -> ScenesReport:
    """Sounds -> `SPLIT.h5`, the pack of scenes, and `SPLIT.tsv`, their events as DCASE writes them.

    A run that was stopped is gone on with by the same call.

    Args:
        sounds: what events are drawn from.
        folder: where to write.
        split: name of the split.
        count: how many scenes, 1 or more.
        sample_rate: of the scenes, Hz.
        rules: what scenes are like.
        seed: not negative.
        background: what sounds behind the events; None is noise between pink and brown.
        attributes: what to store in the pack beside the scenes.
        with_audio: write `SPLIT/NAME.wav` too.
        with_jams: write `SPLIT/NAME.jams` too.
        progress: show a progress bar; None where standard error is a terminal.

    Raises:
        ValueError: an argument out of range.
        OSError: the disk is full.
    """
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        allowed = f"from {audio.MIN_SAMPLE_RATE} to {audio.MAX_SAMPLE_RATE} Hz"
        raise ValueError(f"`sample_rate` must be {allowed}, received {sample_rate}")
    if count < 1:
        raise ValueError(f"`count` must be at least 1, received {count} for {split}")
    mixer = Mixer(sounds, rules, seed=seed, split=split, background=background)
    scenes = [mixer.scene(i) for i in range(count)]
    names = [f"{split}_{i:06d}.wav" for i in range(count)]
    folder = Path(folder)
    pack, events_file = folder / f"{split}.h5", folder / f"{split}.tsv"
    beside = folder / split

    def waveform(i: int) -> Any:
        rendered = mixer.render(scenes[i], sample_rate)
        if with_audio:
            _replaced(beside / names[i], lambda f: soundfile.write(f, rendered, sample_rate, "PCM_16", format="WAV"))
        if with_jams:
            text = json.dumps(_jams(scenes[i], names[i], mixer), indent=1)
            _replaced((beside / names[i]).with_suffix(".jams"), lambda f: f.write(text.encode()))
        return rendered

    # A pack of other scenes than the table's would be measured wrongly: between the two there is no table.
    folder.mkdir(parents=True, exist_ok=True)
    events_file.unlink(missing_ok=True)
    clips = tuple(Recording(folder / n, n, scene.labels) for n, scene in zip(names, scenes, strict=True))
    pack_waveforms(
        AudioList(clips, sounds.labels, (), split),
        waveform,
        pack,
        sample_rate=sample_rate,
        clip_seconds=mixer.rules.scene_seconds,
        fingerprint=_fingerprint(scenes, sample_rate, with_audio, with_jams),
        attributes={**(attributes or {}), "seed": seed, "rules": repr(mixer.rules)},
        progress=progress,
    )
    table = _table(scenes, names, sounds.labels)
    _replaced(events_file, lambda file: file.write(table.encode()))
    return ScenesReport(pack, events_file, count, sum(len(scene.events) for scene in scenes))


def _table(scenes: Sequence[Scene], names: Sequence[str], labels: LabelSet) -> str:
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(_COLUMNS)
    for scene, name in zip(scenes, names, strict=True):
        for event in scene.events:
            label = labels.names[event.excerpt.class_index]
            table.writerow([name, f"{event.onset_seconds:.3f}", f"{event.offset_seconds:.3f}", label])
    return text.getvalue()


def _jams(scene: Scene, name: str, mixer: Mixer) -> dict[str, Any]:
    """A scene as JAMS has it: one annotation of open vocabulary, what else is known in sandboxes."""
    seconds, labels = mixer.rules.scene_seconds, mixer.sounds.labels.names
    made_by = f"kerastag {__version__}"
    data = [
        {
            "time": event.onset_seconds,
            "duration": event.excerpt.seconds,
            "value": labels[event.excerpt.class_index],
            "confidence": 1.0,
        }
        for event in scene.events
    ]
    details = [
        {"source": e.excerpt.source, "source_start": e.excerpt.start_seconds, "snr_db": e.snr_db} for e in scene.events
    ]
    annotation = {
        "namespace": "segment_open",
        "data": data,
        "annotation_metadata": {"annotation_tools": made_by, "data_source": "mixed", "version": ""},
        "sandbox": {"events": details},
        "time": 0,
        "duration": seconds,
    }
    metadata = {"title": name, "artist": "", "release": "", "duration": seconds, "identifiers": {}}
    return {
        "annotations": [annotation],
        "file_metadata": {**metadata, "jams_version": _JAMS_VERSION},
        "sandbox": {"background_db": scene.background_db, "made_by": made_by},
    }


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _replaced(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside and rename it, so that the name never stands for half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
