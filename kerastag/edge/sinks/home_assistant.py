"""Messages by which Home Assistant discovers the classes of a stream as sensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerastag._version import __version__
from kerastag.edge.monitor import SOURCE_STATES

__all__ = ["create_discovery_messages", "create_slugs"]


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
    prefix: str, base: str, slugs: Mapping[str, str], device_id: str, device_name: str, model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the topics and contents of Home Assistant's discovery messages, of one device.

    There are two sensors per class, and one for the state of the source.
    """
    device = {"identifiers": [device_id], "name": device_name, "manufacturer": "kerastag", "model": model}
    shared = {
        "device": {**device, "sw_version": __version__},
        "origin": {"name": "kerastag", "sw_version": __version__},
    }
    status = {"topic": f"{base}/status"}  # By default `online` means available.
    source = {"topic": f"{base}/source", "payload_available": "listening", "payload_not_available": "lost"}
    # Digital silence does not make sensors unavailable: some cameras give it while nothing happens.
    source["value_template"] = "{{ 'lost' if value == 'lost' else 'listening' }}"
    available = {"availability": [status, source], "availability_mode": "all"}
    state = {"device_class": "sound", "payload_on": "ON", "payload_off": "OFF"}
    probability = {"state_class": "measurement", "suggested_display_precision": 2, "icon": "mdi:ear-hearing"}
    for name, slug in slugs.items():
        for component, topic, title, suffix, options in (
            ("binary_sensor", "state", name, "", state),
            ("sensor", "probability", f"{name} probability", "_probability", probability),
        ):
            config: dict[str, Any] = {"name": title, **_create_ids(component, f"{device_id}_{slug}{suffix}")}
            config["state_topic"] = f"{base}/{slug}/{topic}"
            config |= {**options, **available, **shared}
            yield f"{prefix}/{component}/{device_id}/{slug}{suffix}/config", config
    diagnostic: dict[str, Any] = {"name": "Source", **_create_ids("sensor", f"{device_id}_source"), **shared}
    diagnostic |= {"state_topic": f"{base}/source", "device_class": "enum", "options": list(SOURCE_STATES)}
    diagnostic |= {"entity_category": "diagnostic", "icon": "mdi:microphone-question", "availability": [status]}
    yield f"{prefix}/sensor/{device_id}/source/config", diagnostic


def _create_ids(component: str, unique_id: str) -> dict[str, str]:
    entity = re.sub(r"[^a-z0-9]+", "_", unique_id.lower()).strip("_")
    return {"unique_id": unique_id, "default_entity_id": f"{component}.{entity}"}
