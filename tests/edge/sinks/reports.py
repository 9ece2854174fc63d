"""Reports of results and events for the tests of outputs."""

import numpy as np

from kerastag.edge.sinks.sink import EventReport, ResultReport, TagReport

MOMENT = 1_795_000_000.25  # 2026-11-18T11:06:40.250Z


def create_result(*probabilities, start=0.0, time=None, lost=0.0):
    names = ("Bark", "Rain, heavy", "Speech")[: len(probabilities)]
    tags = sorted(zip(names, probabilities, strict=True), key=lambda tag: -tag[1])
    reports = tuple(TagReport(name, f"/m/{name[0]}", probability) for name, probability in tags)
    return ResultReport(start, start + 1.0, time, reports, names, np.array(probabilities), lost)


def create_event(name="Bark", onset=1.0, offset=None, time=None):
    return EventReport(name, f"/m/{name[0]}", onset, offset, time, 0.75, 0.5)
