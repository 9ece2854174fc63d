"""What the pages of the documentation name, small: recordings, tables of labels, models, and `mn04_as`."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import soundfile
from custom.small_runs import make_backbone

from kerastag._version import __version__
from kerastag.bundled import resolve_model_path
from kerastag.card import Card, write_card
from kerastag.cli import main
from kerastag.files import compute_digest, write_text
from kerastag.labels import LabelSet

PAGES_OF_CLASSES = ("labels", "learn", "papers")
"""Pages whose folder `recordings` has several classes, and tables of labels."""

RATE = 32_000


def write_cache(folder):
    """Write a cache folder whose `mn04_as` is a small network that was not trained, with its export."""
    model, export, weights = (folder / f"mn04_as{end}" for end in (".keras", ".tflite", "_mAP_432.pt"))
    weights.write_bytes(b"weights")
    make_backbone(model, ("Speech", "Rain", "Dog"), scale=0.1)
    write_card(model, replace(Card.read(model), versions={"kerastag": __version__}))
    assert main(["export", os.fspath(model), "--target", "any_length", "--output", os.fspath(export)]) == 0
    record = {"format": 1, "kerastag": __version__, "weights": compute_digest(weights), "file": compute_digest(export)}
    write_text(folder / "mn04_as.tflite.json", json.dumps(record))


def write_place(folder, page, sounds, cache):
    """Write what a page names into a folder.

    Args:
        folder: Path of the folder.
        page: Name of the page, such as `learn`.
        sounds: Folder with recordings of each class in a folder of its own.
        cache: Cache folder with `mn04_as`.
    """
    shutil.copytree(sounds, folder / "my_sounds")
    shutil.copytree(sounds / "clicks", folder / "one_class/clicks")
    for name in ("background", "garden", "other_sounds"):
        shutil.copytree(sounds / "hums", folder / name)
    write_sounds(*(folder / name for name in ("recording.wav", "street.flac", "street.wav", "bark.wav", "week.flac")))
    write_text(folder / "token.txt", "a-token-of-more-than-eight-characters\n")
    for name in ("mine", "old", "new", "birds"):
        shutil.copyfile(resolve_model_path("esc10"), folder / f"{name}.tflite")
    shutil.copyfile(cache / "mn04_as.keras", folder / "model.keras")
    labels = LabelSet.from_names(sorted(path.name for path in sounds.iterdir()))
    write_card(folder / "model.keras", replace(Card.read(folder / "model.keras"), labels=labels))
    if page in PAGES_OF_CLASSES:
        shutil.copytree(sounds, folder / "recordings")
        write_tables(folder)
    else:
        write_sounds(*(folder / name for name in ("recordings/a.wav", "recordings/b.flac", "2024/05/a.wav")))
        write_text(folder / "list.csv", "recording\nrecordings/a.wav\n2024/05/a.wav\n")


def write_sounds(*paths):
    """Write recordings of two seconds of a tone, the first of them with noise."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (len(tone), 2))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone[:, None] + noise * (path == paths[0]), RATE)


def write_tables(folder):
    """Write the tables of labels that pages name, and the recordings of ESC-50."""
    files = {path.name: path for path in sorted((folder / "recordings").rglob("*.wav"))}
    (folder / "ESC-50/audio").mkdir(parents=True)
    for name, path in files.items():
        shutil.copyfile(path, folder / "ESC-50/audio" / name)
        write_text(
            folder / f"selections/{path.stem}.Table.1.selections.txt",
            f"Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\n1\t0.2\t1.2\t{path.parent.name}\n",
        )
    labels = {name: path.parent.name for name, path in files.items()}
    tables = {
        "list.csv": ("path,label", [f"{name},{label}" for name, label in labels.items()]),
        "birds.csv": ("sound,bird", [f"{name},{label}" for name, label in labels.items()]),
        "recordings/labels.csv": ("sound,bird", [f"{name},{label}" for name, label in labels.items()]),
        "events.tsv": (
            "filename\tonset\toffset\tevent_label",
            [f"{name}\t0.2\t1.2\t{label}" for name, label in labels.items()],
        ),
        "ESC-50/meta/esc50.csv": (
            "filename,fold,target,category,esc10,src_file,take",
            [f"{name},{name[0]},0,{label},True,1,A" for name, label in labels.items()],
        ),
    }
    for name, (header, rows) in tables.items():
        write_text(folder / name, "\n".join([header, *rows, ""]))
