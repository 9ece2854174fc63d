"""Hours of audio through StreamingTagger as fast as it goes: memory, losses and time stamps, as one line of JSON.

python tests/edge/soak.py HOURS MODEL [HEAD]

The audio is quiet noise at 44.1 kHz with half a second of loud noise every minute or so, in blocks of many sizes. MODEL
has one class, loudness, so each burst becomes an event, whose onset must lie where the burst was put.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator

import numpy as np

from kerastag.edge import Block, StreamingTagger
from kerastag.edge.stats import resident_bytes
from kerastag.events import EventRules, EventTracker

RATE = 44_100
PERIOD = 2_720_971  # samples from one burst to the next: 61.7 s, and no multiple of any block or hop
BURST_AT, BURST = 1_000_003, 22_050
BLOCKS = (1_024, 441, 4_096, 1, 48_000, 17_639)  # samples
WARM_UP = 0.1  # share of the hours before memory is watched


def main() -> None:
    """Feed the audio, print what became of it."""
    hours, files = float(sys.argv[1]), sys.argv[2:]
    samples = round(hours * 3_600 * RATE)
    tagger, soaked = StreamingTagger(*files), Soaked()
    tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, EventRules(0.5))
    results = 0
    for result in tagger.run(blocks(samples)):
        results += 1
        soaked.events(tracker.update(result.framewise_start_seconds, result.framewise))
        if results % 500 == 0 and result.end_seconds > WARM_UP * 3_600 * hours:
            soaked.memory(resident_bytes())
    soaked.events(tracker.flush())
    stats = tagger.stats()
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
                **soaked.as_dict(),
            }
        )
    )


class Soaked:
    """What is watched, in memory that does not grow: this program must not be what grows."""

    def __init__(self) -> None:
        self._onsets = 0
        self._early = self._late = 0.0
        self._first = self._least = self._most = 0

    def events(self, events: list) -> None:
        """How far each begun event lies from its burst."""
        for event in events:
            if event.offset_seconds is None:
                off = event.onset_seconds - (BURST_AT + self._onsets * PERIOD) / RATE
                self._early, self._late = min(self._early, off), max(self._late, off)
                self._onsets += 1

    def memory(self, resident: int) -> None:
        """The first, the least and the most of it."""
        self._first = self._first or resident
        self._least, self._most = min(self._least or resident, resident), max(self._most, resident)

    def as_dict(self) -> dict[str, float]:
        """For the line of JSON."""
        return {
            "onsets": self._onsets,
            "earliest_onset": self._early,
            "latest_onset": self._late,
            "resident_first": self._first,
            "resident_least": self._least,
            "resident_most": self._most,
        }


def blocks(samples: int) -> Iterator[Block]:
    """The audio, `samples` of it."""
    period = (1e-4 * np.random.default_rng(0).standard_normal(PERIOD + max(BLOCKS))).astype(np.float32)
    period[BURST_AT : BURST_AT + BURST] *= 3_000
    period[PERIOD:] = period[: max(BLOCKS)]
    start = 0
    for size in itertools.cycle(BLOCKS):
        if start >= samples:
            return
        size = min(size, samples - start)
        place = start % PERIOD
        yield Block(period[place : place + size], RATE)
        start += size


if __name__ == "__main__":
    main()
