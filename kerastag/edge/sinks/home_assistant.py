"""MQTT topics and Home Assistant's discovery messages, by which the classes become sensors of one device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerastag._version import __version__

__all__ = ["Topics", "create_discovery_messages", "create_slugs"]


class Topics:
    """The topics below a base topic.

    They are `BASE/status`, `BASE/event` and `BASE/result` and, for each class, `BASE/CLASS/state` and
    `BASE/CLASS/probability`.

    Args:
        base: Base topic.

    >>> Topics("kerastag").get_state_topic("dog_bark")
    'kerastag/dog_bark/state'
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.status, self.event, self.result = (f"{base}/{name}" for name in ("status", "event", "result"))

    def get_state_topic(self, slug: str) -> str:
        """Return the topic of the state of a class, a retained `ON` or `OFF`."""
        return f"{self.base}/{slug}/state"

    def get_probability_topic(self, slug: str) -> str:
        """Return the topic of the probability of a class, a retained number in [0, 1]."""
        return f"{self.base}/{slug}/probability"


def create_slugs(names: Sequence[str]) -> dict[str, str]:
    """Create a distinct slug for each class, of lower-case letters, digits and underscores.

    >>> create_slugs(["Dog: bark!", "Dog bark", "Ö"])
    {'Dog: bark!': 'dog_bark', 'Dog bark': 'dog_bark_2', 'Ö': 'class'}
    """
    slugs: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        slug, number = stem, 1
        while slug in slugs.values():
            number += 1
            slug = f"{stem}_{number}"
        slugs[name] = slug
    return slugs


def create_discovery_messages(
    prefix: str, topics: Topics, slugs: Mapping[str, str], device_id: str, device_name: str, model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Create the discovery messages of a binary sensor and a probability sensor for each class.

    Args:
        prefix: Topic prefix that Home Assistant subscribes to, `homeassistant` by default there.
        topics: Topics of the states.
        slugs: Slug of each class, by its name.
        device_id: Unique identifier of the device.
        device_name: Displayed name of the device.
        model: Name of the model.

    Yields:
        Pairs of topic and configuration.
    """
    origin = {"name": "kerastag", "sw_version": __version__}
    device = {"identifiers": [device_id], "name": device_name, "manufacturer": "kerastag", "model": model}
    shared = {
        "availability_topic": topics.status,
        "device": {**device, "sw_version": __version__},
        "origin": origin,
    }
    state_options = {"device_class": "sound", "payload_on": "ON", "payload_off": "OFF"}
    probability_options = {
        "state_class": "measurement",
        "suggested_display_precision": 2,
        "icon": "mdi:ear-hearing",
    }
    for name, slug in slugs.items():
        for component, state_topic, title, suffix, options in (
            ("binary_sensor", topics.get_state_topic(slug), name, "", state_options),
            ("sensor", topics.get_probability_topic(slug), f"{name} probability", "_probability", probability_options),
        ):
            unique_id = f"{device_id}_{slug}{suffix}"
            config = {"name": title, "unique_id": unique_id, "object_id": unique_id, "state_topic": state_topic}
            yield f"{prefix}/{component}/{device_id}/{slug}{suffix}/config", {**config, **options, **shared}
