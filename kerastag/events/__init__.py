"""Events of sounds, with onset and offset, from framewise probabilities.

Evaluation and streaming share this one implementation.
"""

from kerastag.events.finding import find_events, limit_framewise
from kerastag.events.rules import Event, EventRules
from kerastag.events.tracker import EventTracker

__all__ = ["Event", "EventRules", "EventTracker", "find_events", "limit_framewise"]
