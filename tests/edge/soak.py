"""Process hours of audio as fast as possible, and print memory, losses and time stamps as one line of JSON.

python tests/edge/soak.py HOURS MODEL [HEAD]

The audio is quiet noise at 44.1 kHz with half a second of loud noise every minute or so, in blocks of many sizes. MODEL
has one class, loudness, so that each burst becomes an event whose onset must be that of the burst.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator

import numpy as np

from kerastag.edge import Block, StreamingTagger
from kerastag.edge.stats import get_resident_bytes
from kerastag.events import EventRules, EventTracker

RATE = 44_100
PERIOD = 2_720_971  # samples from one burst to the next: 61.7 s, not a multiple of any block or hop
BURST_AT, BURST = 1_000_003, 22_050
BLOCKS = (1_024, 441, 4_096, 1, 48_000, 17_639)  # samples
WARM_UP = 0.1  # share of the hours before memory is measured


def main() -> None:
    """Process the audio and print the measurements."""
    hours, paths = float(sys.argv[1]), sys.argv[2:]
    samples = round(hours * 3_600 * RATE)
    tagger = StreamingTagger(*paths)
    tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, EventRules(0.5))
    onsets, resident = [], []  # An event per minute and a number per 500 results are too few to disturb the memory.
    for number, result in enumerate(tagger.run(generate_blocks(samples))):
        events = tracker.update(result.framewise_start_seconds, result.framewise)
        onsets += [event.onset_seconds for event in events if event.offset_seconds is None]
        if number % 500 == 0 and result.end_seconds > WARM_UP * 3_600 * hours:
            resident.append(get_resident_bytes())
    onsets += [event.onset_seconds for event in tracker.flush() if event.offset_seconds is None]
    delays = [onset - (BURST_AT + number * PERIOD) / RATE for number, onset in enumerate(onsets)]
    stats = tagger.compute_stats()
    measurements = {
        "hours": stats.audio_seconds / 3_600,
        "last_second": result.end_seconds,
        "bursts": len(range(BURST_AT, samples - BURST, PERIOD)),
        "onsets": len(onsets),
        "earliest_onset": min(delays),
        "latest_onset": max(delays),
        "lost_seconds": stats.lost_seconds,
        "real_time_factor": stats.real_time_factor,
        "latency_p99": stats.latency_p99,
        "resident_first": resident[0],
        "resident_min": min(resident),
        "resident_max": max(resident),
    }
    print(json.dumps(measurements))


def generate_blocks(samples: int) -> Iterator[Block]:
    """Yield blocks with `samples` samples in total."""
    period = (1e-4 * np.random.default_rng(0).standard_normal(PERIOD + max(BLOCKS))).astype(np.float32)
    period[BURST_AT : BURST_AT + BURST] *= 3_000
    period[PERIOD:] = period[: max(BLOCKS)]
    start = 0
    for size in itertools.cycle(BLOCKS):
        if start >= samples:
            return
        size = min(size, samples - start)
        offset = start % PERIOD
        yield Block(period[offset : offset + size], RATE)
        start += size


if __name__ == "__main__":
    main()
