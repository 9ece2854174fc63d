"""The parity gate: an exported file against Keras, in one table and one JSON, before the file is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.export import probes
from kerastag.export.clips import Clips
from kerastag.export.device import Use, measure_use
from kerastag.export.serving import Served
from kerastag.export.source import rebuilt
from kerastag.export.target import Tolerance
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect
from kerastag.metrics import compute_metrics

__all__ = ["ParityError", "Report", "check", "map_of", "reference"]

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]
_ByProbe = dict[str, dict[str, float]]
THREADS = (1, 2)
ROUNDINGS = 3
"""How many times as far from the exact result as Keras in float32 a file may be, where that is over its tolerance."""
_MAY_CHOOSE = 0.01
"""From this tolerance of a frame on, a file of two streams may listen elsewhere than Keras does."""
_AT_A_TIME = 8


class ParityError(ValueError):
    """An exported file that is further from Keras than its target allows."""


@dataclass(frozen=True)
class Report:
    """What was measured of one exported file.

    Args:
        name: of the file or folder.
        target: of the export.
        size_bytes: of the file, or of all files in the folder.
        differences: output -> probe -> largest difference to Keras; for an embedding as a share of its largest value.
        tolerances: output -> largest difference that the target allows.
        roundings: output -> probe -> how far Keras itself is from the same network in float64, where a difference is
            over the tolerance because of it: the file is at most `ROUNDINGS` times as far from that.
        windows: output -> probe -> largest difference to Keras, where it is over the tolerance because the file's local
            stream listened elsewhere; `differences` has how far it is from what Keras says wherever it listens.
        map_keras, map_file: mAP on the evaluation clips; None without them.
        map_loss_allowed: mAP that the target allows to lose.
        clips: evaluation clips, 0 without them.
        use: threads -> what running it takes.
        window_seconds: seconds of sound in what was timed: a window, or a segment of a stream.
    """

    name: str
    target: str
    size_bytes: int
    differences: Mapping[str, Mapping[str, float]]
    tolerances: Mapping[str, float]
    roundings: Mapping[str, Mapping[str, float]]
    windows: Mapping[str, Mapping[str, float]]
    map_keras: float | None
    map_file: float | None
    map_loss_allowed: float
    clips: int
    use: Mapping[int, Use]
    window_seconds: float

    @property
    def map_loss(self) -> float | None:
        """mAP that the file has lost; below zero where it gained."""
        return None if self.map_keras is None or self.map_file is None else self.map_keras - self.map_file

    def faults(self) -> list[str]:
        """What is over the target's tolerance, one line each; none when the file may be kept."""
        found = []
        for output, by_probe in self.differences.items():
            excused = self.roundings.get(output, {})
            asked = {probe: value for probe, value in by_probe.items() if probe not in excused}
            probe, worst = max(asked.items(), key=lambda item: (math.isnan(item[1]), item[1]), default=("", 0.0))
            if not worst <= self.tolerances[output]:
                found.append(f"`{output}` differs by {worst:.2g} on {probe}, allowed {self.tolerances[output]:.2g}")
        if self.map_loss is not None and not self.map_loss <= self.map_loss_allowed:
            found.append(f"mAP loses {self.map_loss:.4f}, allowed {self.map_loss_allowed:.4f}")
        return found

    def table(self) -> str:
        """Everything in one Markdown table."""
        rows = [("size", f"{self.size_bytes / 1e6:.3f} MB", "")]
        for output, by_probe in self.differences.items():
            probe, worst = max(by_probe.items(), key=lambda item: item[1])
            allowed = f"{self.tolerances[output]:.1e}"
            if probe in (excused := self.roundings.get(output, {})):
                allowed += f", or {ROUNDINGS} times Keras's own rounding, {excused[probe]:.1e}"
            rows.append((f"{output}, largest difference", f"{worst:.1e} ({probe})", allowed))
            for probe, apart in self.windows.get(output, {}).items():
                rows.append((f"{output}, with windows elsewhere", f"{apart:.1e} ({probe})", "wherever Keras listens"))
        if self.map_loss is not None:
            rows.append((f"mAP of {self.clips} clips, Keras", f"{self.map_keras:.4f}", ""))
            rows.append(("mAP, this file", f"{self.map_file:.4f}", f"{self.map_loss_allowed:.4f} less"))
        for threads, use in self.use.items():
            window = f"{self.window_seconds:g} s of sound, {threads} thread{'s' * (threads > 1)}"
            rows.append((window, f"{use.milliseconds:.2f} ms", ""))
        if self.use:
            rows.append(("peak memory of its process", f"{max(use.peak_mb for use in self.use.values()):.0f} MB", ""))
        lines = [f"| {self.name} ({self.target}) | measured | allowed |", "| --- | --- | --- |"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "name": self.name,
            "target": self.target,
            "size_bytes": self.size_bytes,
            "differences": {output: dict(by_probe) for output, by_probe in self.differences.items()},
            "tolerances": dict(self.tolerances),
            "roundings": {output: dict(by_probe) for output, by_probe in self.roundings.items()},
            "windows": {output: dict(by_probe) for output, by_probe in self.windows.items()},
            "map": {"keras": self.map_keras, "file": self.map_file, "allowed_loss": self.map_loss_allowed},
            "clips": self.clips,
            "use": {str(threads): use._asdict() for threads, use in self.use.items()},
            "window_seconds": self.window_seconds,
        }


def check(
    path: Path,
    name: str,
    target: str,
    tolerance: Tolerance,
    run: Run,
    served: Served,
    clips: Clips | None = None,
) -> Report:
    """A file just written and what runs it -> what was measured of it.

    Args:
        path: where the file is now.
        name: what it shall be called.
        target: of the export.
        tolerance: of the target.
        run: inputs (batch, ...) -> outputs by name.
        served: what the file was made from.
        clips: evaluation clips, on which mAP is measured before and after.

    Raises:
        ParityError: the file is over a tolerance; the message says by how much.
    """
    tolerances = {output: tolerance.of(output, served.input == "waveform") for output in served.reference.output}
    differences, roundings, windows = _differences(run, served, tolerances)
    before = after = None
    if clips is not None:
        before, after = map_of(lambda given: reference(served, given), clips), map_of(run, clips)
    report = Report(
        name=name,
        target=target,
        size_bytes=_size(path),
        differences=differences,
        tolerances=tolerances,
        roundings=roundings,
        windows=windows,
        map_keras=before,
        map_file=after,
        map_loss_allowed=tolerance.map_loss,
        clips=0 if clips is None else len(clips),
        use={},
        window_seconds=served.timed_seconds,
    )
    if faults := report.faults():
        raise ParityError(f"{name}: not kept, too far from Keras: {'; '.join(faults)}")
    use = {threads: measure_use(path, threads) for threads in THREADS}
    return Report(**{**vars(report), "use": use})


def _differences(run: Run, served: Served, tolerances: Mapping[str, float]) -> tuple[_ByProbe, _ByProbe, _ByProbe]:
    """Output -> probe -> difference to Keras, and where that comes from Keras's own rounding or from other windows."""
    found: _ByProbe = {output: {} for output in tolerances}
    roundings: _ByProbe = {}
    windows: _ByProbe = {}
    cut = _cut(served) if tolerances.get("framewise", 0.0) >= _MAY_CHOOSE and "clipwise" in tolerances else None
    network: keras.Model | None = None
    for probe, given in probes.inputs(served).items():
        expected, actual = reference(served, given), run(given)
        for output, wanted in expected.items():
            found[output][probe] = _difference(output, actual[output], wanted)
        if cut and found["clipwise"][probe] > tolerances["clipwise"]:
            windows.setdefault("clipwise", {})[probe] = found["clipwise"][probe]
            least, most = _wherever(served, cut, given, expected["framewise"].shape[1])
            found["clipwise"][probe] = float(
                np.maximum(least - actual["clipwise"], actual["clipwise"] - most).clip(0).max()
            )
        over = [output for output in expected if found[output][probe] > tolerances[output]]
        if not over or served.input == "waveform":
            continue
        network = network or rebuilt(served.reference, dtype="float64")  # a hundred million times more exact
        exact = {name: np.asarray(value) for name, value in network(given.astype(np.float64), training=False).items()}
        for output in over:
            own, its = (_difference(output, said[output], exact[output]) for said in (expected, actual))
            if its <= ROUNDINGS * own:
                roundings.setdefault(output, {})[probe] = own
    return found, roundings, windows


def _cut(served: Served) -> ClassWiseClipSelect | None:
    """What chooses where the local stream listens; None of one stream."""
    layers = served.reference._flatten_layers()
    return next((layer for layer in layers if isinstance(layer, ClassWiseClipSelect)), None)


def _wherever(
    served: Served, cut: ClassWiseClipSelect, given: np.ndarray, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most that Keras says of each class, wherever its local stream listens.

    What is pooled over sub-clips lies between what its least and its most probable sub-clip would give by itself.
    """
    places = np.arange(2 * frames - 1) / 2  # frames and halves: all that may be chosen
    said = []
    for start in range(0, len(places), _AT_A_TIME):
        some = places[start : start + _AT_A_TIME]
        with cut.listening_at(some):
            said.append(np.asarray(served.reference(np.repeat(given, len(some), axis=0), training=False)["clipwise"]))
    heard = np.concatenate(said)
    return heard.min(axis=0, keepdims=True), heard.max(axis=0, keepdims=True)


def _difference(output: str, actual: np.ndarray, wanted: np.ndarray) -> float:
    scale = 1.0 if output in ("clipwise", "framewise") else max(1e-6, float(np.abs(wanted).max()))
    return float(np.abs(actual - wanted).max()) / scale


def reference(served: Served, given: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs (batch, ...) -> what Keras says."""
    return {name: np.asarray(value) for name, value in served.reference.predict_on_batch(given).items()}


def map_of(run: Run, clips: Clips) -> float:
    """Something that runs, and evaluation clips -> its mAP on them.

    Raises:
        ValueError: it gives no `clipwise`.
    """
    scores = []
    for batch in clips.batches():
        given = run(batch)
        if "clipwise" not in given:
            raise ValueError("`evaluation` needs a model with the output `clipwise`")
        scores.append(given["clipwise"])
    return compute_metrics(clips.targets, np.concatenate(scores)).map


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
