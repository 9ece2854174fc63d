"""Report of an export: how far the file is from Keras, its size, and the time and memory it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerastag.export.device import Usage
from kerastag.markdown import format_table

__all__ = ["ROUNDINGS", "ExportReport", "ParityError"]

ROUNDINGS = 3
"""Where Keras's own rounding exceeds the tolerance, a file may be this many times as far from the exact result."""


class ParityError(ValueError):
    """An exported file differs from Keras by more than its target allows."""


@dataclass(frozen=True)
class ExportReport:
    """Measurements of an exported file.

    Args:
        name: Name of the file or folder.
        target: Name of the export target.
        size_bytes: Size of the file, or of all files in the folder.
        differences: Largest difference to Keras by output and probe, as in `Tolerance`.
        tolerances: Largest difference that the target allows, by output.
        roundings: Difference of Keras to the same network in float64 by output and probe, where it is the reason why
            the tolerance is exceeded.
        sub_clip_differences: Largest difference to Keras by output and probe, where the file selected other sub-clips;
            `differences` then holds the distance to the predictions of Keras for any sub-clips.
        map_keras: mAP of Keras on the evaluation clips; None without them.
        map_file: mAP of the file on the evaluation clips; None without them.
        map_loss_allowed: Loss of mAP that the target allows.
        clips: Number of evaluation clips.
        usage: Time and memory of the file, by number of threads.
        window_seconds: Length of the audio that one timed call processes, in seconds.
    """

    name: str
    target: str
    size_bytes: int
    differences: Mapping[str, Mapping[str, float]]
    tolerances: Mapping[str, float]
    roundings: Mapping[str, Mapping[str, float]]
    sub_clip_differences: Mapping[str, Mapping[str, float]]
    map_keras: float | None
    map_file: float | None
    map_loss_allowed: float
    clips: int
    usage: Mapping[int, Usage]
    window_seconds: float

    @property
    def map_loss(self) -> float | None:
        """Loss of mAP by the export, negative for a gain; None without evaluation clips."""
        return None if self.map_keras is None or self.map_file is None else self.map_keras - self.map_file

    def find_violations(self) -> list[str]:
        """Return one line for each tolerance that is exceeded."""
        violations = []
        for output, by_probe in self.differences.items():
            limit, excused = self.tolerances[output], self.roundings.get(output, {})
            checked = {probe: value for probe, value in by_probe.items() if probe not in excused}
            probe, worst = max(checked.items(), key=lambda item: (math.isnan(item[1]), item[1]), default=("", 0.0))
            if not worst <= limit:
                violations.append(f"`{output}` differs by {worst:.2g} on {probe}, allowed {limit:.2g}")
        if self.map_loss is not None and not self.map_loss <= self.map_loss_allowed:
            violations.append(f"mAP loses {self.map_loss:.4f}, allowed {self.map_loss_allowed:.4f}")
        return violations

    def as_markdown(self) -> str:
        """Return a Markdown table of the report."""
        rows = [("size", f"{self.size_bytes / 1e6:.3f} MB", "")]
        for output, by_probe in self.differences.items():
            probe, worst = max(by_probe.items(), key=lambda item: item[1])
            allowed = f"{self.tolerances[output]:.1e}"
            if probe in (roundings := self.roundings.get(output, {})):
                allowed += f", or {ROUNDINGS} times Keras's own rounding, {roundings[probe]:.1e}"
            rows.append((f"{output}, largest difference", f"{worst:.1e} ({probe})", allowed))
            for probe, difference in self.sub_clip_differences.get(output, {}).items():
                rows.append((f"{output}, other sub-clips", f"{difference:.1e} ({probe})", "Keras with any sub-clips"))
        if self.map_loss is not None:
            rows.append((f"mAP of {self.clips} clips, Keras", f"{self.map_keras:.4f}", ""))
            rows.append(("mAP, this file", f"{self.map_file:.4f}", f"{self.map_loss_allowed:.4f} less"))
        for threads, usage in self.usage.items():
            call = f"{self.window_seconds:g} s of audio, {threads} thread{'s' * (threads > 1)}"
            rows.append((call, f"{usage.milliseconds:.2f} ms", ""))
        if peaks := [usage.peak_mb for usage in self.usage.values() if usage.peak_mb is not None]:
            rows.append(("peak memory of its process", f"{max(peaks):.0f} MB", ""))
        return format_table((f"{self.name} ({self.target})", "measured", "allowed"), rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "name": self.name,
            "target": self.target,
            "size_bytes": self.size_bytes,
            "differences": self.differences,
            "tolerances": self.tolerances,
            "roundings": self.roundings,
            "windows": self.sub_clip_differences,
            "map": {"keras": self.map_keras, "file": self.map_file, "allowed_loss": self.map_loss_allowed},
            "clips": self.clips,
            "use": {str(threads): usage._asdict() for threads, usage in self.usage.items()},
            "window_seconds": self.window_seconds,
        }
