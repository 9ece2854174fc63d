"""What Home Assistant is told over MQTT, so that the classes appear there as the sensors of one device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from kerastag import __version__

__all__ = ["Topics", "discovery", "slugs"]

_ON, _OFF = "ON", "OFF"


class Topics:
    """What is below a base: `BASE/status`, `BASE/event`, `BASE/result`, `BASE/CLASS/state`, `BASE/CLASS/probability`.

    >>> Topics("kerastag").state("dog_bark")
    'kerastag/dog_bark/state'
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.status, self.event, self.result = (f"{base}/{name}" for name in ("status", "event", "result"))

    def state(self, slug: str) -> str:
        """Whether a class sounds: `ON` or `OFF`, retained."""
        return f"{self.base}/{slug}/state"

    def probability(self, slug: str) -> str:
        """A class's probability in [0, 1], retained."""
        return f"{self.base}/{slug}/probability"


def slugs(names: Sequence[str]) -> dict[str, str]:
    """Class names -> what stands for them in topics: lower case, letters, figures and `_`; no two the same.

    >>> slugs(["Dog: bark!", "Dog bark", "Ö"])
    {'Dog: bark!': 'dog_bark', 'Dog bark': 'dog_bark_2', 'Ö': 'class'}
    """
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        slug, number = plain, 1
        while slug in found.values():
            number += 1
            slug = f"{plain}_{number}"
        found[name] = slug
    return found


def discovery(
    prefix: str, topics: Topics, slug_of: dict[str, str], device_id: str, device_name: str, model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Classes -> (topic, configuration) of a binary sensor and a probability sensor for each of them.

    Args:
        prefix: Where Home Assistant looks, `homeassistant` unless it was told otherwise.
        topics: Of the states.
        slug_of: Class name -> its slug.
        device_id: What tells this device from every other one.
        device_name: What people call it.
        model: Name of the model that listens.
    """
    origin = {"name": "kerastag", "sw_version": __version__}
    device = {"identifiers": [device_id], "name": device_name, "manufacturer": "kerastag", "model": model}
    shared = {
        "availability_topic": topics.status,
        "device": {**device, "sw_version": __version__},
        "origin": origin,
    }
    for name, slug in slug_of.items():
        sound = {"device_class": "sound", "payload_on": _ON, "payload_off": _OFF}
        probability = {"state_class": "measurement", "suggested_display_precision": 2, "icon": "mdi:ear-hearing"}
        for component, state_topic, title, suffix, extra in (
            ("binary_sensor", topics.state(slug), name, "", sound),
            ("sensor", topics.probability(slug), f"{name} probability", "_probability", probability),
        ):
            unique = f"{device_id}_{slug}{suffix}"
            config = {"name": title, "unique_id": unique, "object_id": unique, "state_topic": state_topic}
            yield f"{prefix}/{component}/{device_id}/{slug}{suffix}/config", {**config, **extra, **shared}
