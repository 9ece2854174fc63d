"""Train a tagger of your own sounds from a folder of recordings, and tag a recording with it.

    python examples/learn_your_own_sounds.py [FOLDER] [MODEL]

FOLDER, by default `my_sounds`, has one folder per class; if it does not exist, it is made with synthetic sounds. MODEL
is the pretrained network whose embeddings the tagger takes: `mn04_as`, which is downloaded, or a `.keras` file.
`kerastag learn FOLDER` does the same and exports the tagger for a device.
"""

# %% The recordings: those of the command, or synthetic ones.
import sys
from pathlib import Path

import numpy as np
import soundfile

from kerastag import Tagger
from kerastag.custom import CustomConfig, train_custom_tagger
from kerastag.data.sound_sources import SyntheticSounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt

CLASSES = ("hums", "bursts", "clicks")


def write_sounds(folder: Path) -> Path:
    """Write six recordings of two seconds of each class."""
    sounds = SyntheticSounds()
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            waveform = sounds.load_waveform(Excerpt(sounds.labels.index(name), name, number, 0.0, 2.0))
            soundfile.write(folder / name / f"{number}.wav", 0.3 * waveform / np.abs(waveform).max(), MIX_SAMPLE_RATE)
    return folder


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "my_sounds")
if not folder.is_dir():
    write_sounds(folder)

# %% Train: cross-validation for honest figures, then a tagger from all recordings.
config = CustomConfig(
    audio_dir=str(folder),
    model=sys.argv[2] if len(sys.argv) > 2 else "mn04_as",
    folds=3,
    run_dir="runs/my_sounds",
)
train_custom_tagger(config)

# %% Use it: `model.keras` takes waveforms, like any other model. A silence, then the first recording.
recording = next(path for path in sorted(folder.rglob("*")) if path.suffix == ".wav")
waveform, rate = soundfile.read(recording, dtype="float32")
tagger = Tagger.load("runs/my_sounds/model.keras")
for tag in tagger.tag(np.concatenate([np.zeros(rate, np.float32), waveform]), sample_rate=rate, top=3):
    print(f"{recording}: {tag.probability:.3f} {tag.name}")
