"""Outputs of a stream: JSON Lines, CSV, a terminal, MQTT and recordings of events."""

from kerastag.edge.sinks.group import SINK_KINDS, SinkContext, SinkGroup, open_sinks
from kerastag.edge.sinks.sink import Sink

__all__ = ["SINK_KINDS", "Sink", "SinkContext", "SinkGroup", "open_sinks"]
