"""Every run behind the tables of GL-AT in RESULTS.md, on soundscapes of a folder of recordings.

    python benchmarks/gl_at.py --audio-dir ESC10 --runs RUNS [--only NAME ...] [--seeds S ...] [--jobs N] [--valid]

Finished runs are left unchanged and interrupted ones are resumed, so the same command can be repeated. It ends with
a table. `--list` shows the runs. Soundscapes of folds 1 to 4 are trained on, those of fold 5 are evaluated on. A
tenth of the recordings of folds 1 to 4 is held out for the pack `valid`, on which `--valid` evaluates the same runs:
steps and variants are selected there.

`mn04_pretrained` starts from published weights, the others from `NAME_base`, the same backbone trained here. From
there each is trained alone and with GL-AT with equal steps, batches and learning rates, and alone again with as many
operations as both streams need: N * tau = 15 s besides the 10 s of the clip, so 2.5 times as many, through steps
(`NAME_matched`) or, for narrow backbones from scratch, width (`NAME_wide`), as `benchmarks/two_streams.py` counts
them. A frozen global stream starts from the backbone that was trained alone, since its selection needs a classifier.

The networks are as narrow as two cores can train. `--full-width` uses the published widths in mixed_bfloat16, which
needs a GPU. `--times` multiplies all steps, for networks that learn slowly. `--soundscapes`, `--mixup` and
`--spec-augment` are for networks that overfit. Runs with other flags have folders of their own, named after the
flags.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _figures import add_record_flag, record
from _runs import Run, is_finished, print_state, run_all

from kerastag._command import prepare_tensorflow
from kerastag.markdown import format_table
from kerastag.metrics import compute_d_prime
from kerastag.recipes._evaluation import compute_run_metrics, load_run
from kerastag.recipes._papers import read_paper

MATCHED_OPERATIONS = 2.5
COUNTS = {"bal_train": 1500, "valid": 200, "eval": 500}
SPLITS = ("bal_train=1,2,3,4:90%", "valid=1,2,3,4:10%", "eval=5")
COMMON = {
    "train_packs": '["bal_train"]',
    "batch_size": 16,
    "schedule": "cosine",
    "warmup_steps": 20,
    "share": "none",
    "checkpoints": 1,  # in so short a run, the model at a fifth of the steps is still poor
}
# Width of each backbone, and steps before and after the start of the comparison: what two cores can train.
WIDTHS = {"cnn10": 0.125, "talnet": 0.125, "resnet38": 0.0625, "at_sca": 0.125, "mn": 0.4}
# Widths at which a single stream needs as many operations as two.
MATCHED_WIDTHS = {"cnn10": 0.2, "talnet": 0.21, "resnet38": 0.11, "at_sca": 0.2}
BASE_STEPS, STEPS = 600, 120
# With MN's published 0.99, its moving averages would lag behind its weights after so few steps; the others have 0.9.
BATCH_NORM_MOMENTUM = 0.9
SEEDS = (0, 1, 2)
TITLES = {
    "talnet": "TALNet",
    "cnn10": "CNN10",
    "resnet38": "ResNet38",
    "at_sca": "AT-SCA",
    "mn04_pretrained": "MN, `mn04_as`",
    "mn": "MN from scratch",
}
PARTS = ("all", "short", "close")
STREAMS = ("global", "local", "ensemble")
# How the streams may be coupled, besides `share="none"` in COMMON, which is that of the public code; `share_all_max` is
# that of an earlier version.
COUPLINGS = {
    "share_classifier": {"share": "classifier"},
    "share_all": {"share": "all"},
    "share_all_max": {"share": "all", "sub_clip_pooling": "max"},
    "frames_local": {"frame_scores": "local"},
}
# What the streams share, and the rows with the paper's pooling of sub-clips and, where there is one, with the maximum.
SHARINGS = {
    "separate, P / max": ("gl_at", "max"),
    "one classifier, P": ("share_classifier",),
    "one network, P / max": ("share_all", "share_all_max"),
    "frames of the local classifier, P": ("frames_local",),
}
# Learning rate of the backbone alone, chosen on `valid`: of 2e-4, 1e-3 and 3e-3 the second (0.8404, 0.9342, 0.9301 mAP;
# one seed), and of 1e-3 and 2e-3 the latter (0.9438, 0.9454; three seeds on another machine), with MN's own momentum.
PRETRAINED = {
    "backbone": "mn",
    "width": 0.4,
    "steps": 300,
    "learning_rate": 2e-3,
    "batch_norm_momentum": BATCH_NORM_MOMENTUM,
    "initial_weights": "mn04_as",
}
Rows = dict[str, tuple[dict, tuple[int, ...]]]


def make_rows(full_width: bool = False, times: int = 1, rate: float = PRETRAINED["learning_rate"]) -> Rows:
    """Return the flags and seeds of every row by name, the most important rows first.

    Args:
        full_width: Whether the backbones have their published widths.
        times: Factor on all steps.
        rate: Learning rate of pretrained MN.
    """
    rows: Rows = {}
    pretrained = {**PRETRAINED, "learning_rate": rate}

    def compare(name: str, flags: dict) -> None:
        alone = {**flags, "streams": "global"}
        rows[f"{name}_alone"] = alone, SEEDS
        rows[f"{name}_max"] = {**flags, "sub_clip_pooling": "max"}, SEEDS
        rows[f"{name}_gl_at"] = flags, SEEDS
        rows[f"{name}_matched"] = {**alone, "steps": round(MATCHED_OPERATIONS * flags["steps"])}, SEEDS

    def ablate(name: str, flags: dict) -> None:
        rows.update({f"{name}_sub_clips_{n}": ({**flags, "num_sub_clips": n}, (0,)) for n in (1, 2, 3, 4, 6, 7)})
        rows.update({f"{name}_seconds_{t}": ({**flags, "sub_clip_seconds": t}, (0,)) for t in (1, 2, 4, 5)})

    if not full_width:  # `mn04_as` has its published width
        compare("mn04_pretrained", pretrained)
    for name in WIDTHS:
        size = {"width": 1.0, "precision": "mixed_bfloat16"} if full_width else {"width": WIDTHS[name]}
        backbone = {"backbone": name, "dropout_factor": 0.0, "batch_norm_momentum": BATCH_NORM_MOMENTUM, **size}
        rows[f"{name}_base"] = {**backbone, "streams": "global", "steps": BASE_STEPS}, SEEDS
        from_base = {**backbone, "steps": STEPS, "initial_weights": f"{name}_base"}
        compare(name, from_base)
        if name in MATCHED_WIDTHS and not full_width:
            wide = {**backbone, "width": MATCHED_WIDTHS[name], "streams": "global"}
            rows[f"{name}_wide_base"] = {**wide, "steps": BASE_STEPS}, SEEDS
            rows[f"{name}_wide"] = {**wide, "steps": STEPS, "initial_weights": f"{name}_wide_base"}, SEEDS
        if name in ("cnn10", "talnet") and not full_width:
            for coupling, more in COUPLINGS.items():
                rows[f"{name}_{coupling}"] = {**from_base, **more}, SEEDS
        if name == "cnn10":
            ablate(name, from_base)
    if not full_width:
        ablate("mn04_pretrained", pretrained)
        frozen = {"initial_weights": "mn04_pretrained_alone", "freeze_global": "true"}
        rows["mn04_pretrained_frozen"] = {**pretrained, **frozen}, (0,)
        rows["mn04_pretrained_spread"] = {**pretrained, "suppress_radius_seconds": 1.0}, (0,)
    return {name: ({**flags, "steps": times * flags["steps"]}, seeds) for name, (flags, seeds) in rows.items()}


def make_soundscapes(audio_dir: Path, output: Path, sample_rate: int, count: int) -> None:
    """Make the soundscapes of all splits, `count` of them to train on, unless they exist."""
    if not all((output / f"{split}.tsv").is_file() for split in COUNTS):
        arguments = ["--audio-dir", str(audio_dir), "--output", str(output), "--sample-rate", str(sample_rate)]
        arguments += [part for split in SPLITS for part in ("--split", split)]
        arguments += ["--count", *(f"{split}={number}" for split, number in {**COUNTS, "bal_train": count}.items())]
        subprocess.run([sys.executable, "-m", "kerastag", "make-soundscapes", *arguments], check=True)


def name_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder of the runs with these flags, whose name lists those that differ from the defaults."""
    name = "eval" + ("_full" if arguments.full_width else "")
    for part, value, default in (
        ("times", arguments.times, 1),
        ("rate", arguments.pretrained_rate, PRETRAINED["learning_rate"]),
        ("soundscapes", arguments.soundscapes, COUNTS["bal_train"]),
        ("mixup", arguments.mixup, 0),
    ):
        name += f"_{part}_{value:g}" if value != default else ""
    return arguments.runs / (name + ("_spec_augment" if arguments.spec_augment else ""))


def make_run(name: str, flags: dict, seed: int, data_dir: Path, folder: Path) -> Run:
    """Return the run of a row and a seed."""
    all_flags = {**COMMON, **flags, "seed": seed, "data_dir": data_dir, "evaluate_every": flags["steps"]}
    after = None
    weights = flags.get("initial_weights")
    if weights not in (None, PRETRAINED["initial_weights"]):  # those of another row
        after = folder / weights / f"seed_{seed}"
        all_flags["initial_weights"] = after / "model.keras"
    return Run("gl_at", folder / name / f"seed_{seed}", all_flags, after)


def read_metrics(run: Run, valid: bool) -> dict:
    """Return the metrics of a finished run, or those of its model on the held-out recordings."""
    if not valid:
        return run.metrics()
    import keras

    keras.backend.clear_session()
    return compute_run_metrics(load_run(run.folder, eval_pack="valid"))


def format_spread(values: Sequence[float], mean: float | None = None) -> str:
    """Format the mean, unless it is given, and the standard deviation if there are several values."""
    if not values:
        return "–"
    text = f"{statistics.mean(values) if mean is None else mean:z.4f}"
    return f"{text} ± {statistics.stdev(values):.4f}" if len(values) > 1 else text


def format_localization(metrics: Sequence[dict], part: str) -> str:
    """Format the share of sub-clips with their center inside an event, that of chance, and the possible share."""
    scores = [run["localization"][part] for run in metrics if run.get("localization")]
    if not scores:
        return "–"
    shares = [statistics.mean(s[key] for s in scores) for key in ("center", "center_chance", "center_possible")]
    return "{:.3f} ({:.3f}, {:.3f})".format(*shares)


def format_row(name: str, metrics: Sequence[dict]) -> list[str]:
    """Format the row of the table with the runs of one name."""

    def spread(part: str, key: str) -> str:
        return format_spread([run[part][key] for run in metrics if run.get(part)])

    d_prime = compute_d_prime(statistics.mean(run["ensemble"]["mauc"] for run in metrics))
    return [
        name,
        str(len(metrics)),
        *(spread("ensemble", key) for key in ("map", "mauc")),
        format_spread([run["ensemble"]["d_prime"] for run in metrics], d_prime),
        *(spread(part, "map") for part in ("global", "local")),
        *(format_localization(metrics, part) for part in PARTS),
        f"{statistics.mean(run['seconds'] for run in metrics) / 60:.1f}",
    ]


def average(metrics: Sequence[dict], part: str = "ensemble", key: str = "map") -> float:
    """Return the mean of a metric over runs."""
    return statistics.mean(run[part][key] for run in metrics)


def record_ablations(metrics: Mapping[str, list[dict]]) -> None:
    """Record mAP and localization of CNN10 over N and over tau, if these runs are finished; N is 5 and tau 3 s."""
    names = [f"cnn10_sub_clips_{n}" if n != 5 else "cnn10_gl_at" for n in range(1, 8)]
    names += [f"cnn10_seconds_{t}" if t != 3 else "cnn10_gl_at" for t in range(1, 6)]
    if not {"cnn10_alone", *names} <= metrics.keys():
        return
    by_name = [metrics[name] for name in names]
    values = ("N = 1", *map(str, range(2, 8)), "τ = 1 s", *(f"{t} s" for t in range(2, 6)))
    rows = [
        ["mAP", *(f"{average(runs):.4f}" for runs in by_name), f"{average(metrics['cnn10_alone']):.4f}"],
        ["local stream", *(f"{average(runs, 'local'):.4f}" for runs in by_name), "–"],
        ["center inside", *(format_localization(runs, "all").split()[0] for runs in by_name), "–"],
    ]
    record("gl_at_ablations", ("narrow CNN10, P", *values, "alone"), rows)


def format_above(runs: Sequence[dict] | None, alone: Sequence[dict]) -> str:
    """Format the mAP of runs, and how much it is above that of the backbone alone; `–` if there are none."""
    if not runs:
        return "–"
    difference = f"{average(runs) - average(alone):+.4f}".replace("-", "−")
    return f"{average(runs):.4f} ({difference})"


def record_comparisons(metrics: Mapping[str, list[dict]], full_width: bool) -> None:
    """Record two tables of RESULTS.md: of the backbones whose runs alone and with GL-AT are finished."""
    published = read_paper("paper2").rows
    comparisons, localization = [], []
    for backbone, title in TITLES.items():
        alone, both, maximum = (metrics.get(f"{backbone}_{name}") for name in ("alone", "gl_at", "max"))
        if not (alone and both and maximum):
            continue
        title += ", full width" if full_width else "" if backbone == "mn04_pretrained" else ", narrow"
        values = [published[name].published for name in (backbone, f"gl_at_{backbone}") if name in published]
        papers = ", ".join(f"{value.map:.3f}".lstrip("0") for value in values if value) or "–"
        compared = [
            format_above(metrics.get(f"{backbone}_{name}"), alone) for name in ("gl_at", "max", "matched", "wide")
        ]
        comparisons.append([title, len(alone), f"{average(alone):.4f}", *compared, papers])
        quality = [
            f"{mauc:.4f}, {compute_d_prime(mauc):.3f}"
            for mauc in (average(runs, key="mauc") for runs in (alone, maximum))
        ]
        localization.append([title, *quality, *(format_localization(maximum, part) for part in PARTS)])
    if comparisons:
        matched = ("matched: steps", "matched: width")
        header = ("mAP (above alone)", "seeds", "alone", "GL-AT, P", "GL-AT, max", *matched, "paper: alone, GL-AT")
        record("gl_at", header, comparisons)
        quality_titles = [f"{name}: mAUC, d-prime" for name in ("alone", "GL-AT, max")]
        record("gl_at_localization", ("GL-AT, max", *quality_titles, "center inside: all", *PARTS[1:]), localization)


def record_streams(metrics: Mapping[str, list[dict]], finished: Mapping[str, list[Run]], full_width: bool) -> None:
    """Record table 2 of RESULTS.md: each stream, by what the streams share, on `eval` and on held-out recordings."""
    rows = []
    for backbone in ("cnn10", "talnet"):
        alone, size = metrics.get(f"{backbone}_alone"), "full width" if full_width else "narrow"
        for sharing, couplings in SHARINGS.items():
            names = [f"{backbone}_{name}" for name in couplings]
            if alone and all(metrics.get(name) for name in names):
                pairs = [" / ".join(f"{average(metrics[name], part):.4f}" for name in names) for part in STREAMS]
                held_out = [average([read_metrics(run, valid=True) for run in finished[name]]) for name in names]
                title = f"{TITLES[backbone]}, {size}, {sharing}"
                rows.append([title, f"{average(alone):.4f}", *pairs, " / ".join(f"{value:.4f}" for value in held_out)])
    if rows:
        names = ("global stream of both", "local stream of both", "both", "both, held out")
        record("gl_at_streams", ("table 2: mAP", "alone", *names), rows)


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--audio-dir", type=Path, required=True, help="Recordings, folder/class/*.ogg, with ESC's names."
    )
    parser.add_argument("--runs", type=Path, required=True, help="Folder of soundscapes and of run folders.")
    parser.add_argument("--only", nargs="+", choices=make_rows(), metavar="NAME", help="Only these rows.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Only these seeds.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    parser.add_argument("--full-width", action="store_true", help="Published widths in mixed_bfloat16, for a GPU.")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="Factor on all steps.")
    parser.add_argument(
        "--pretrained-rate",
        type=float,
        default=PRETRAINED["learning_rate"],
        metavar="R",
        help="Learning rate of pretrained MN.",
    )
    parser.add_argument(
        "--soundscapes", type=int, default=COUNTS["bal_train"], metavar="N", help="Number of training soundscapes."
    )
    parser.add_argument("--mixup", type=float, default=0, metavar="ALPHA", help="Mixup of training soundscapes.")
    parser.add_argument("--spec-augment", action="store_true", help="SpecAugment of training soundscapes.")
    parser.add_argument("--valid", action="store_true", help="Evaluate on held-out recordings instead.")
    parser.add_argument("--list", action="store_true", help="List the runs and whether they are finished.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    prepare_tensorflow()
    folder = name_folder(arguments)
    suffix = f"_{arguments.soundscapes}" if arguments.soundscapes != COUNTS["bal_train"] else ""
    augmentation = {"mixup": arguments.mixup, "spec_augment": str(arguments.spec_augment).lower()}
    by_name: dict[str, list[Run]] = {}
    for name, (flags, seeds) in make_rows(arguments.full_width, arguments.times, arguments.pretrained_rate).items():
        if not arguments.only or name in arguments.only:
            sample_rate = 16_000 if flags["backbone"] == "talnet" else 32_000
            data_dir = arguments.runs / f"soundscapes_{sample_rate}{suffix}"
            if not arguments.list:
                make_soundscapes(arguments.audio_dir, data_dir, sample_rate, arguments.soundscapes)
            flags = {**flags, **augmentation}
            by_name[name] = [make_run(name, flags, seed, data_dir, folder) for seed in arguments.seeds or seeds]
    runs = [run for name_runs in by_name.values() for run in name_runs]
    if arguments.list:
        print_state(runs)
        return 0
    failed = run_all(runs, arguments.jobs)
    finished = {name: [run for run in name_runs if is_finished(run.folder)] for name, name_runs in by_name.items()}
    metrics = {name: [read_metrics(run, arguments.valid) for run in name_runs] for name, name_runs in finished.items()}
    metrics = {name: values for name, values in metrics.items() if values}
    columns = ("run", "seeds", "mAP", "mAUC", "d-prime", "global mAP", "local mAP")
    localization = ("center inside (chance, possible)", "short events", "close events")
    if metrics:
        rows = [format_row(name, values) for name, values in metrics.items()]
        print(format_table((*columns, *localization, "minutes"), rows))
    if arguments.record and not arguments.valid:
        record_ablations(metrics)
        record_comparisons(metrics, arguments.full_width)
        record_streams(metrics, finished, arguments.full_width)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
