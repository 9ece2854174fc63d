"""GL-AT without data: scenes of synthesized events, the backbone alone beside it, and a table of both."""

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from kerastag.recipes._run import localization_lines, open_run, read_json, run_network

COUNTS = {"bal_train": 400, "eval": 150}


def on_made_up_scenes(settings: Any, build: Callable[..., Any], recipe: str) -> None:
    """Settings -> a run on ten-second scenes, one of the backbone alone, and the table of their streams."""
    folder = open_run(settings, recipe)
    data_dir = folder / "synthetic"
    if not (data_dir / "eval.tsv").exists():
        from kerastag.data.mixing import SceneRules
        from kerastag.data.synthetic_events import write_synthetic_scenes

        print("making the synthetic scenes", file=sys.stderr)
        rate = settings.front_end.sample_rate
        rules = SceneRules(max_events=3, snr_db=(10.0, 25.0))
        write_synthetic_scenes(data_dir, sample_rate=rate, counts=COUNTS, rules=rules, seed=settings.seed)
    runs = {"both": folder}
    if settings.streams == "both":
        kept = {field.name: getattr(settings, field.name) for field in fields(settings)}
        alone = type(settings)(
            **{**kept, "streams": "global", "freeze_global": False, "run_dir": str(folder / "beside_backbone_alone")}
        )
        runs["alone"] = Path(str(alone.run_dir))
        print(f"{settings.backbone} alone, beside:", file=sys.stderr)
        run_network(alone, build, recipe, data_dir, quiet=True)
        print(f"{settings.backbone} with GL-AT:", file=sys.stderr)
    figures = run_network(settings, build, recipe, data_dir, quiet=settings.streams == "both")
    if settings.streams == "both":
        print("\n".join(_table(settings.backbone, *(read_json(runs[r] / "metrics.json") for r in ("alone", "both")))))
        print(f"run folder: {folder}")
        print(figures.line())


def _table(backbone: str, alone: dict[str, Any], joint: dict[str, Any]) -> list[str]:
    """`metrics.json` of the backbone alone and of GL-AT -> the rows of table 2, and where the windows lie."""
    rows = {
        f"{backbone} alone": alone["ensemble"],
        f"{backbone} + GL-AT, global": joint["global"],
        f"{backbone} + GL-AT, local": joint["local"],
        f"{backbone} + GL-AT, both": joint["ensemble"],
    }
    lines = [f"\nSynthetic scenes: five classes, one to three events in ten seconds, {COUNTS['eval']} to tag\n"]
    lines += ["| streams | mAP | mAUC | d-prime |", "| --- | --- | --- | --- |"]
    for name, found in rows.items():
        d_prime = "inf" if found["d_prime"] is None else f"{found['d_prime']:.3f}"
        lines.append(f"| {name} | {found['map']:.4f} | {found['mauc']:.4f} | {d_prime} |")
    return [*lines, *localization_lines(joint)]
