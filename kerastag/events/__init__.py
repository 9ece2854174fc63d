"""Framewise probabilities -> events: when a class begins and ends. One copy, for scoring and for streaming."""

from kerastag.events.finding import find_events, sounding_probabilities
from kerastag.events.rules import Event, EventRules
from kerastag.events.tracker import EventTracker

__all__ = ["Event", "EventRules", "EventTracker", "find_events", "sounding_probabilities"]
