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
    tagger, measurements = StreamingTagger(*paths), Measurements()
    tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, EventRules(0.5))
    results = 0
    for result in tagger.run(generate_blocks(samples)):
        results += 1
        measurements.add_events(tracker.update(result.framewise_start_seconds, result.framewise))
        if results % 500 == 0 and result.end_seconds > WARM_UP * 3_600 * hours:
            measurements.add_memory(get_resident_bytes())
    measurements.add_events(tracker.flush())
    stats = tagger.compute_stats()
    expected = len(range(BURST_AT, samples - BURST, PERIOD))
    print(
        json.dumps(
            {
                "hours": stats.audio_seconds / 3_600,
                "results": results,
                "last_second": result.end_seconds,
                "bursts": expected,
                "lost_seconds": stats.lost_seconds,
                "real_time_factor": stats.real_time_factor,
                "latency_p99": stats.latency_p99,
                **measurements.as_dict(),
            }
        )
    )


class Measurements:
    """Measurements in memory that does not grow, so that this program does not disturb them."""

    def __init__(self) -> None:
        self._onsets = 0
        self._early = self._late = 0.0
        self._first = self._min = self._max = 0

    def add_events(self, events: list) -> None:
        """Compare the onset of each new event with that of its burst."""
        for event in events:
            if event.offset_seconds is None:
                difference = event.onset_seconds - (BURST_AT + self._onsets * PERIOD) / RATE
                self._early, self._late = min(self._early, difference), max(self._late, difference)
                self._onsets += 1

    def add_memory(self, resident: int) -> None:
        """Update the first value, the minimum and the maximum."""
        self._first = self._first or resident
        self._min, self._max = min(self._min or resident, resident), max(self._max, resident)

    def as_dict(self) -> dict[str, float]:
        """Return the measurements as JSON values."""
        return {
            "onsets": self._onsets,
            "earliest_onset": self._early,
            "latest_onset": self._late,
            "resident_first": self._first,
            "resident_min": self._min,
            "resident_max": self._max,
        }


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
