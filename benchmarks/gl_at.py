"""Every run behind RESULTS.md's tables of GL-AT, on scenes mixed from a folder of recordings.

    python benchmarks/gl_at.py --audio_dir ESC10 --runs RUNS [--only NAME ...] [--seeds S ...] [--jobs N] [--valid]

What is finished is left as it is and what was interrupted goes on where it stopped, so the same command may be given
again and again. Ends with the tables. `--list` shows the runs. Scenes of folds 1 to 4 are trained on, those of fold 5
are measured on; a tenth of the recordings of folds 1 to 4 is kept for the pack `valid`, on which `--valid` measures
instead, in folders of its own: step counts are chosen there.

`mn04_pretrained` begins with published weights, the others with what `NAME_base`, the same backbone, learned here. From
there each is trained alone and with GL-AT at equal steps, batches and rates, and alone again with as many operations as
both streams take: N * tau = 15 s beside the clip's 10, so 2.5 times, in steps (`NAME_rival`) or, of the narrow ones
that learn from scratch, in width (`NAME_wide`), as `benchmarks/two_streams.py` counts them. A frozen global stream
begins with the backbone that was trained alone, as its choice needs a classifier.

The networks are as narrow as two cores can train them; with `--full_width` they have the published width and learn in
mixed_bfloat16, which wants a GPU. `--times` is for what is not learned in so few steps: all of them, that often.
`--scenes`, `--mixup` and `--spec_augment` are for what knows its scenes by heart by then. What is trained by other
flags has a folder of its own, named after them.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from _runs import Run, finished, print_state, run_all

AS_MANY_OPERATIONS = 2.5
COUNTS = {"bal_train": 1500, "valid": 200, "eval": 500}
SPLITS = ("bal_train=1,2,3,4:90%", "valid=1,2,3,4:10%", "eval=5")
EVERY = {
    "train_packs": '["bal_train"]',
    "batch_size": 16,
    "schedule": "cosine",
    "warmup_steps": 20,
    "checkpoints": 1,  # so short a run is still learning at a fifth of its steps
}
# Width of each backbone, and steps before and from where the comparison begins: what two cores can do.
WIDTHS = {"cnn10": 0.125, "talnet": 0.125, "resnet38": 0.0625, "at_sca": 0.125, "mn": 0.4}
# What takes as many operations alone as two such streams do.
WIDE = {"cnn10": 0.2, "talnet": 0.21, "resnet38": 0.11, "at_sca": 0.2}
BASE_STEPS, STEPS = 600, 120
# MN's published 0.99 leaves it, after so few steps, with averages behind its weights; the others have 0.9 anyway.
BATCH_NORM_MOMENTUM = 0.9
SEEDS = (0, 1, 2)
# The rate of the backbone alone on `valid`: of 2e-4, 1e-3 and 3e-3 the second (0.8404, 0.9342, 0.9301 mAP; one seed),
# and of it and 2e-3 the latter (0.9438, 0.9454; three seeds on another machine); with MN's own momentum.
PRETRAINED = {
    "backbone": "mn",
    "width": 0.4,
    "steps": 300,
    "learning_rate": 2e-3,
    "batch_norm_momentum": BATCH_NORM_MOMENTUM,
    "initial_weights": "mn04_as",
}


def rows(
    full_width: bool = False, times: int = 1, rate: float = PRETRAINED["learning_rate"]
) -> dict[str, tuple[dict, tuple]]:
    """Name -> flags, with so many `times` the steps and pretrained MN's `rate`, and seeds. The first matter most."""
    found = {}
    pretrained = {**PRETRAINED, "learning_rate": rate}

    def compare(name: str, flags: dict) -> None:
        alone = {**flags, "streams": "global"}
        found[f"{name}_alone"] = alone, SEEDS
        found[f"{name}_max"] = {**flags, "sub_clip_pooling": "max"}, SEEDS
        found[f"{name}_gl_at"] = flags, SEEDS
        found[f"{name}_rival"] = {**alone, "steps": round(AS_MANY_OPERATIONS * flags["steps"])}, SEEDS

    def ablate(name: str, flags: dict) -> None:
        found.update({f"{name}_clips_{n}": ({**flags, "num_sub_clips": n}, (0,)) for n in (1, 2, 3, 4, 6, 7)})
        found.update({f"{name}_seconds_{t}": ({**flags, "sub_clip_seconds": t}, (0,)) for t in (1, 2, 4, 5)})

    def of_backbone(name: str) -> dict:
        size = {"width": 1.0, "precision": "mixed_bfloat16"} if full_width else {"width": WIDTHS[name]}
        return {"backbone": name, "dropout_factor": 0.0, "batch_norm_momentum": BATCH_NORM_MOMENTUM, **size}

    if not full_width:  # `mn04_as` has its published width
        compare("mn04_pretrained", pretrained)
    for name in WIDTHS:
        found[f"{name}_base"] = {**of_backbone(name), "streams": "global", "steps": BASE_STEPS}, SEEDS
        begun = {**of_backbone(name), "steps": STEPS, "initial_weights": f"{name}_base"}
        compare(name, begun)
        if name in WIDE and not full_width:
            wide = {**of_backbone(name), "width": WIDE[name], "streams": "global"}
            found[f"{name}_wide_base"] = {**wide, "steps": BASE_STEPS}, SEEDS
            found[f"{name}_wide"] = {**wide, "steps": STEPS, "initial_weights": f"{name}_wide_base"}, SEEDS
        if name == "cnn10":
            ablate(name, begun)
    if not full_width:
        ablate("mn04_pretrained", pretrained)
        trained = {"initial_weights": "mn04_pretrained_alone", "freeze_global": "true"}
        found["mn04_pretrained_frozen"] = {**pretrained, **trained}, (0,)
        found["mn04_pretrained_spread"] = {**pretrained, "suppress_radius_seconds": 1.0}, (0,)
    return {name: ({**flags, "steps": times * flags["steps"]}, seeds) for name, (flags, seeds) in found.items()}


def make_scenes(audio_dir: Path, scenes: Path, rate: int, count: int = COUNTS["bal_train"]) -> None:
    """A folder of recordings -> a folder of scenes, `count` of them to train on, made when they are not all there."""
    if not all((scenes / f"{split}.tsv").is_file() for split in COUNTS):
        words = ["--audio_dir", str(audio_dir), "--output", str(scenes), "--sample_rate", str(rate)]
        words += [word for split in SPLITS for word in ("--split", split)]
        words += ["--count", *(f"{split}={number}" for split, number in {**COUNTS, "bal_train": count}.items())]
        subprocess.run([sys.executable, "-m", "kerastag", "make-soundscapes", *words], check=True)


def folder_of(arguments: argparse.Namespace) -> Path:
    """Where runs of these flags go: what is not as it is by default is in the name."""
    name = ("valid" if arguments.valid else "eval") + ("_full" if arguments.full_width else "")
    for part, value, default in (
        ("times", arguments.times, 1),
        ("rate", arguments.pretrained_rate, PRETRAINED["learning_rate"]),
        ("scenes", arguments.scenes, COUNTS["bal_train"]),
        ("mixup", arguments.mixup, 0),
    ):
        name += f"_{part}_{value:g}" if value != default else ""
    return arguments.runs / (name + ("_spec_augment" if arguments.spec_augment else ""))


def run_of(name: str, flags: dict, seed: int, scenes: Path, folder: Path) -> Run:
    """A row's flags and a seed -> its run in `folder`, which is named after the pack to measure on."""
    all_flags = {**EVERY, **flags, "seed": seed, "data_dir": scenes, "evaluate_every": flags["steps"]}
    all_flags |= {"eval_pack": "valid"} if folder.name.startswith("valid") else {}
    after = None
    weights = flags.get("initial_weights")
    if weights not in (None, PRETRAINED["initial_weights"]):  # another row's
        after = folder / weights / f"seed_{seed}"
        all_flags["initial_weights"] = after / "model.keras"
    return Run("gl_at", folder / name / f"seed_{seed}", all_flags, after)


def spread(values: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def inside(found: list[dict], which: str) -> str:
    """Runs -> share of windows with their center inside an event, what chance gives and what is possible at all."""
    windows = [run["localization"][which] for run in found if run.get("localization")]
    if not windows:
        return "–"
    shares = [statistics.mean(w[key] for w in windows) for key in ("center", "center_chance", "center_possible")]
    return "{:.3f} ({:.3f}, {:.3f})".format(*shares)


def line(name: str, found: list[dict]) -> str:
    """The runs of one name -> their line of the table."""

    def figure(part: str, key: str) -> str:
        values = [run[part][key] for run in found if run.get(part)]
        return spread(values) if values else "–"

    windows = [inside(found, which) for which in ("all", "short", "close")]
    minutes = statistics.mean(run["seconds"] for run in found) / 60
    parts = [figure("ensemble", key) for key in ("map", "mauc", "d_prime")]
    streams = [figure(part, "map") for part in ("global", "local")]
    return " | ".join([f"| {name}", str(len(found)), *parts, *streams, *windows, f"{minutes:.1f} |"])


def plot(found: dict[str, list[dict]], output: Path) -> None:
    """Runs by name -> mAP over N and over tau, with what the paper says of its figure 2, which prints no numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    panels = (
        (axes[0], "clips", 5, "sub-clips N, of 3 s", (5, 7), "paper: rises to 5, then level"),
        (axes[1], "seconds", 3, "length of a sub-clip, s (N = 5)", (3, 4), "paper: best at 3 to 4"),
    )
    for axis, key, published, label, best, said in panels:
        axis.axvspan(best[0] - 0.25, best[1] + 0.25, alpha=0.15, color="gray", label=said)
        for system, runs_of in _ablations(found, key, published).items():
            values = sorted(runs_of)
            means = [statistics.mean(runs_of[value]) for value in values]
            (line,) = axis.plot(values, means, marker="o", label=system)
            if alone := found.get(f"{system}_alone"):
                level = statistics.mean(run["ensemble"]["map"] for run in alone)
                axis.axhline(level, linestyle=":", color=line.get_color(), label=f"{system} alone")
        axis.set_xlabel(label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize="small")
    axes[0].set_ylabel("mAP on scenes of fold 5")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)


def _ablations(found: dict[str, list[dict]], key: str, published: int) -> dict[str, dict[int, list[float]]]:
    """Runs by name -> system -> N or tau -> mAP of each seed; what the other runs have is the published value."""
    by_system: dict[str, dict[int, list[float]]] = {}
    for name, runs_of in found.items():
        system, marker, value = name.partition(f"_{key}_")
        if marker:
            by_system.setdefault(system, {})[int(value)] = [run["ensemble"]["map"] for run in runs_of]
    for system, values in by_system.items():
        if at_published := found.get(f"{system}_gl_at"):
            values[published] = [run["ensemble"]["map"] for run in at_published]
    return by_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder/class/*.ogg with folds in the names")
    parser.add_argument("--runs", type=Path, required=True, help="folder of scenes and of run folders")
    parser.add_argument("--only", nargs="+", choices=rows(), metavar="NAME", help="these runs alone")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds alone")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--full_width", action="store_true", help="published widths in mixed_bfloat16, for a GPU")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="so many times the steps")
    parser.add_argument(
        "--pretrained_rate", type=float, default=PRETRAINED["learning_rate"], metavar="R", help="of MN as published"
    )
    parser.add_argument("--scenes", type=int, default=COUNTS["bal_train"], metavar="N", help="to train on")
    parser.add_argument("--mixup", type=float, default=0, metavar="ALPHA", help="mixup of training scenes")
    parser.add_argument("--spec_augment", action="store_true", help="SpecAugment of training scenes")
    parser.add_argument("--valid", action="store_true", help="measure on the held-out recordings of the training folds")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw both ablations, as far as they are finished")
    parser.add_argument("--list", action="store_true", help="print the runs and what is finished")
    arguments = parser.parse_args()
    folder = folder_of(arguments)
    more = f"_{arguments.scenes}" if arguments.scenes != COUNTS["bal_train"] else ""
    augment = {"mixup": arguments.mixup, "spec_augment": str(arguments.spec_augment).lower()}
    by_name: dict[str, list[Run]] = {}
    for name, (flags, seeds) in rows(arguments.full_width, arguments.times, arguments.pretrained_rate).items():
        if not arguments.only or name in arguments.only:
            rate = 16_000 if flags["backbone"] == "talnet" else 32_000
            scenes = arguments.runs / f"scenes_{rate}{more}"
            if not arguments.list:
                make_scenes(arguments.audio_dir, scenes, rate, arguments.scenes)
            flags = {**flags, **augment}
            by_name[name] = [run_of(name, flags, seed, scenes, folder) for seed in arguments.seeds or seeds]
    runs = [run for of_name in by_name.values() for run in of_name]
    if arguments.list:
        print_state(runs)
        return 0
    failed = run_all(runs, arguments.jobs)
    found = {name: [run.figures() for run in of_name if finished(run.folder)] for name, of_name in by_name.items()}
    found = {name: figures for name, figures in found.items() if figures}
    if found:
        windows = "center inside (chance, possible) | short events | close events"
        header = f"| run | seeds | mAP | mAUC | d-prime | global mAP | local mAP | {windows} | minutes |"
        print("\n".join([header, "|" + " --- |" * 11, *(line(name, figures) for name, figures in found.items())]))
    if arguments.plot:
        plot(found, arguments.plot)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
