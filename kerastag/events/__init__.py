"""Events of sounds, with onset and offset, from framewise probabilities, for evaluation and streaming."""

from kerastag.events.rules import Event, EventRules, create_event_rules
from kerastag.events.tracker import EventTracker, find_events, limit_framewise

__all__ = ["Event", "EventRules", "EventTracker", "create_event_rules", "find_events", "limit_framewise"]
