"""Events of sounds, with onset and offset, from framewise probabilities, for evaluation and streaming."""

from kerastag.events.rules import Event, EventRules
from kerastag.events.tracker import EventTracker, find_events, limit_framewise

__all__ = ["Event", "EventRules", "EventTracker", "find_events", "limit_framewise"]
