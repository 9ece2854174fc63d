"""Tag a recording: its most probable classes, and when each of them sounds.

    python examples/tag_a_recording.py [RECORDING] [MODEL]

By default, the recording is synthetic rain with a pause, and the model is the bundled `esc10`. Any audio file works,
and `mn04_as` is a model of 527 classes.
"""

# %% The recording: that of the command, or rain, 4,000 drops a second, each a short burst of noise.
import sys
from pathlib import Path

import numpy as np
import soundfile

from kerastag import Tagger
from kerastag.events import EventTracker, create_event_rules

RATE = 32_000


def write_rain(path: Path, seconds: float = 8.0) -> Path:
    """Write rain with a pause of two seconds in the middle."""
    random = np.random.default_rng(0)
    drops = np.zeros(round(seconds * RATE))
    burst = np.exp(-np.arange(400) / 40)
    for start in random.integers(0, len(drops) - len(burst), round(4_000 * seconds)):
        drops[start : start + len(burst)] += random.exponential(0.03) * burst * random.standard_normal(len(burst))
    drops[round((seconds / 2 - 1) * RATE) : round((seconds / 2 + 1) * RATE)] = 0
    soundfile.write(path, drops.clip(-1, 1), RATE)
    return path


path = Path(sys.argv[1]) if len(sys.argv) > 1 else write_rain(Path("rain.wav"))

# %% The tags of the whole recording.
tagger = Tagger.load(sys.argv[2] if len(sys.argv) > 2 else "esc10")
tags = tagger.tag(path, top=3)
for tag in tags:
    print(f"{tag.probability:.3f} {tag.name}")

# %% Probabilities over time: one row per output frame, one column per class.
timeline = tagger.predict_timeline(path)
k = tagger.labels.names.index(tags[0].name)
for second in range(int(timeline.duration_seconds)):
    frames = (timeline.seconds >= second) & (timeline.seconds < second + 1)
    probability = timeline.probabilities[frames, k].max()
    print(f"{second:3} s {probability:.2f} {'#' * round(40 * probability)}")

# %% Events: where the probability reaches the threshold of the class in the model, and where it falls below.
rules = create_event_rules(tagger.card.event_rules, tagger.card.thresholds)
tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, rules)
events = [*tracker.update(0.0, timeline.probabilities), *tracker.flush()]
for event in events:
    if event.offset_seconds is not None:
        name = tagger.labels.names[event.class_index]
        print(
            f"{name}: {event.onset_seconds:.1f} to {event.offset_seconds:.1f} s, at most {event.peak_probability:.2f}"
        )
