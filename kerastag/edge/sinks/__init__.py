"""Outputs of a stream: JSON Lines, CSV, a terminal, MQTT and recordings of events."""

from kerastag.edge.sinks.group import SinkContext, SinkGroup, open_sinks
from kerastag.edge.sinks.sink import Sink

__all__ = ["Sink", "SinkContext", "SinkGroup", "open_sinks"]
