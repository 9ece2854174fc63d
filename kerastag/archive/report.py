"""The report of an archive: what its finished shards hold, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kerastag.archive.tables import FORMAT
from kerastag.markdown import format_table

__all__ = ["create_report", "format_report"]

_MAX_CLASSES = 20
_EMPTY = {
    "silence": "their samples are constant within -100 dB of full scale",
    "sample_rate": "their sample rate is at most half of that of the model, which expects higher frequencies",
    "threshold": "no class reached its threshold; `files` has the most probable one",
}


def create_report(
    records: Iterable[Mapping[str, Any]], labels: Mapping[str, Any] | None, num_files: int, num_shards: int
) -> dict[str, Any]:
    """Add up the records of the finished shards of an archive.

    Args:
        records: Records of finished shards.
        labels: Lists `mids` and `names` of the classes of the model, or None.
        num_files: Number of files in the manifest.
        num_shards: Number of shards in the manifest.

    Returns:
        JSON values: `is_complete`, `files`, `finished_files`, `shards`, `finished_shards`, `audio_hours`, `rows` by
        table, `failures` by kind, `empty` by the reason why no class was detected, and `classes`, the numbers of tags
        and of files by identifier.
    """
    sums: dict[str, Counter[str]] = {"rows": Counter(), "failures": Counter(), "empty": Counter()}
    tags, files = Counter[str](), Counter[str]()
    finished_files, finished_shards, seconds = 0, 0, 0.0
    for record in records:
        finished_files += record["files"]
        finished_shards += 1
        seconds += record["seconds"]
        for name, counter in sums.items():
            counter.update(record[name])
        for mid, counts in record["classes"].items():
            tags[mid] += counts["tags"]
            files[mid] += counts["files"]
    names = dict(zip(labels["mids"], labels["names"], strict=True)) if labels else {}
    return {
        "format": FORMAT,
        "is_complete": finished_shards == num_shards,
        "files": num_files,
        "finished_files": finished_files,
        "shards": num_shards,
        "finished_shards": finished_shards,
        "audio_hours": seconds / 3600,
        **{name: dict(sorted(counter.items())) for name, counter in sums.items()},
        "classes": {
            mid: {"name": names.get(mid, mid), "tags": tags[mid], "files": files[mid]}
            for mid in sorted(tags, key=lambda mid: (-files[mid], -tags[mid], mid))
        },
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Format a report as Markdown."""
    state = "complete" if report["is_complete"] else "not complete: run the same command again"
    lines = [
        "# Archive",
        "",
        f"{report['finished_files']:,} of {report['files']:,} files, {report['audio_hours']:,.1f} h of audio, "
        f"{report['finished_shards']:,} of {report['shards']:,} shards; {state}.",
        "",
        format_table(["table", "rows"], [(table, f"{count:,}") for table, count in report["rows"].items()]),
    ]
    if run := report.get("run"):
        speed = f"{run['times_real_time']:,.0f} times real time"
        lines += ["", f"The last run took {run['elapsed_seconds']:,.0f} s for {run['files']:,} files, {speed}."]
    if failures := report["failures"]:
        table = format_table(["kind", "files"], [(kind, f"{count:,}") for kind, count in failures.items()])
        lines += ["", "Files that failed; `failures` has the reason of each:", "", table]
    if empty := report["empty"]:
        meanings = [(reason, f"{count:,}", _EMPTY[reason]) for reason, count in empty.items()]
        table = format_table(["reason", "files", "meaning"], meanings)
        lines += ["", "Files in which nothing was detected:", "", table]
    if classes := report["classes"]:
        rows = [(each["name"], f"{each['files']:,}", f"{each['tags']:,}") for each in classes.values()]
        title = f"The {_MAX_CLASSES} most frequent of {len(rows)} classes:" if len(rows) > _MAX_CLASSES else "Classes:"
        lines += ["", title, "", format_table(["class", "files", "tags"], rows[:_MAX_CLASSES])]
    return "\n".join(lines) + "\n"
