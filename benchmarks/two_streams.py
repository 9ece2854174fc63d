"""Time, memory and operations of a training step of GL-AT and of its backbone alone.

    python benchmarks/two_streams.py [--backbone cnn10] [--width 0.25] [--batch-size 16] [--precision float32]

All variants take the same clips, front end included; the backbone is also run with Keras's own batch normalization.
Steps of all variants alternate in one process; the peak memory of each is that of a process of its own. Operations are
counted in TensorFlow's graph of one prediction; the width at which the backbone alone needs as many is printed, too. On
another backend than TensorFlow, operations are not counted.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _figures import add_record_flag, describe_environment, print_table, record

from kerastag._command import prepare_tensorflow

prepare_tensorflow()

SECONDS = 10.0
NUM_CLASSES = 10
NUM_SUB_CLIPS, SUB_CLIP_SECONDS = 5, 3.0
SUMMARY = (
    "backbone, width",
    "alone: ms, MiB",
    "joint, log-mel: ratio, MiB",
    "joint, waveform",
    "frozen: ratio, MiB",
    "alone, Keras's BatchNorm",
)
KERAS_BATCH_NORM = "backbone alone, Keras's BatchNormalization"
# Arguments of `gl_at` by the name of the variant; None is the backbone alone.
VARIANTS = {
    "backbone alone": None,
    KERAS_BATCH_NORM: None,
    "joint, selected on log-mel": {"select": "log_mel"},
    "joint, selected on the waveform": {"select": "waveform"},
    "global stream frozen, log-mel": {"select": "log_mel", "freeze_global": True},
}


def build(arguments: argparse.Namespace, variant: str, width: float | None = None):
    """Build the model of a variant, with waveform input."""
    from kerastag.models import MODELS

    options = {"num_classes": NUM_CLASSES, "width": width or arguments.width, "input": "waveform"}
    if VARIANTS[variant] is None:
        model = MODELS[arguments.backbone].build(**options)
        return replace_batch_norm(model) if variant == KERAS_BATCH_NORM else model
    options |= {"num_sub_clips": NUM_SUB_CLIPS, "sub_clip_seconds": SUB_CLIP_SECONDS, "share": "none"}
    return MODELS[f"gl_at_{arguments.backbone}"].build(**options, **VARIANTS[variant])


def replace_batch_norm(model):
    """Rebuild a backbone with Keras's own batch normalization."""
    import keras

    from kerastag.layers import FusedBatchNormalization

    def replace(layer):
        is_fused = isinstance(layer, FusedBatchNormalization)
        return (keras.layers.BatchNormalization if is_fused else type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=replace)


def make_batch(arguments: argparse.Namespace):
    """Make a batch of noise with random targets."""
    import numpy as np

    from kerastag.dsp import FRONT_ENDS
    from kerastag.models import MODELS

    sample_rate = FRONT_ENDS[MODELS[arguments.backbone].front_end].sample_rate
    rng = np.random.default_rng(0)
    waveforms = 0.1 * rng.standard_normal((arguments.batch_size, int(SECONDS * sample_rate))).astype(np.float32)
    return waveforms, (rng.random((arguments.batch_size, NUM_CLASSES)) < 0.2).astype(np.float32)


def make_training_step(arguments: argparse.Namespace, variant: str, batch):
    """Return a function that runs one training step and returns its wall time and processor time in seconds."""
    import keras

    from kerastag.training.config import TrainingConfig
    from kerastag.training.optimization import compile_model
    from kerastag.training.outputs import select_training_outputs

    keras.config.set_dtype_policy(arguments.precision)
    model = compile_model(select_training_outputs(build(arguments, variant)), TrainingConfig())

    def step() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        model.train_on_batch(*batch)
        return time.perf_counter() - wall, time.process_time() - processor

    step()
    step()
    return step


def count_operations(model, num_samples: int) -> float:
    """Count the floating-point operations of one prediction, in billions."""
    import tensorflow as tf

    function = tf.function(lambda x: model(x)["clipwise"]).get_concrete_function(tf.TensorSpec((1, num_samples)))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops / 1e9


def find_equal_width(
    arguments: argparse.Namespace, num_samples: int, backbone_operations: float, operations: float
) -> tuple[float, float]:
    """Find the smallest width, in hundredths, at which the backbone alone needs as many operations, and their number.

    The search starts from the rule that operations are proportional to the square of the width.
    """
    operations_by_width = {round(100 * arguments.width): backbone_operations}

    def count(hundredths: int) -> float:
        if hundredths not in operations_by_width:
            model = build(arguments, "backbone alone", hundredths / 100)
            operations_by_width[hundredths] = count_operations(model, num_samples)
        return operations_by_width[hundredths]

    width = round(100 * arguments.width)
    for _ in range(2):
        width = round(width * (operations / count(width)) ** 0.5)
    while count(width) < operations:
        width += 1
    while count(width - 1) >= operations:
        width -= 1
    return width / 100, count(width)


def measure_peak_memory(arguments: argparse.Namespace, variant: str) -> float:
    """Measure the peak memory of a process that trains a variant, MiB."""
    command = [sys.executable, __file__, "--memory-only", variant]
    for name in ("backbone", "width", "batch_size", "precision"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    result = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    return float(result.stdout.splitlines()[-1])


def summarize(arguments: argparse.Namespace, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the row of a backbone in the table of BENCHMARKS.md, from the rows of its variants."""
    (_, time, _, _, memory, _), keras, joint, waveform, frozen = rows
    name = {"mn": "MN", "talnet": "TALNet", "resnet38": "ResNet38", "cnn10": "CNN10", "at_sca": "AT-SCA"}
    ratios = [f"{row[2]}, {int(row[4]):,}" for row in (joint, frozen)]
    size = f"{name[arguments.backbone]}, {arguments.width:g}"
    return [size, f"{time}, {int(memory):,}", ratios[0], waveform[2], ratios[1], keras[2]]


def main() -> None:
    """Measure all variants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    backbones = ("talnet", "cnn10", "resnet38", "at_sca", "mn")
    parser.add_argument("--backbone", default="cnn10", choices=backbones, help="Backbone of both streams.")
    parser.add_argument("--width", type=float, default=0.25, help="Width of the backbone.")
    parser.add_argument("--batch-size", type=int, default=16, help="Number of clips in a batch.")
    parser.add_argument("--precision", default="float32", help="Dtype policy of Keras.")
    parser.add_argument("--rounds", type=int, default=10, help="Number of steps of each variant.")
    parser.add_argument("--memory-only", choices=VARIANTS, help=argparse.SUPPRESS)
    add_record_flag(parser)
    arguments = parser.parse_args()
    batch = make_batch(arguments)
    if arguments.memory_only:
        make_training_step(arguments, arguments.memory_only, batch)()
        # Not `ru_maxrss`, which a process inherits from its parent.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        return
    import keras

    steps = {name: make_training_step(arguments, name, batch) for name in VARIANTS}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            seconds[name].append(step())
    counts_operations = keras.backend.backend() == "tensorflow"
    num_samples = batch[0].shape[1]
    operations = {
        name: count_operations(build(arguments, name), num_samples) if counts_operations else 0.0 for name in VARIANTS
    }
    baseline = seconds["backbone alone"]
    rows = []
    for name, times in seconds.items():
        wall, processor = (
            statistics.median(a[i] / b[i] for a, b in zip(times, baseline, strict=True)) for i in range(2)
        )
        median = 1e3 * statistics.median(wall_seconds for wall_seconds, _ in times)
        memory = f"{measure_peak_memory(arguments, name):.0f}"
        rows.append((name, f"{median:.0f}", f"{wall:.2f}", f"{processor:.2f}", memory, f"{operations[name]:.2f}"))
    print(describe_environment())
    print(f"{arguments.backbone}, width {arguments.width:g}, {arguments.batch_size} clips of {SECONDS:g} s, ", end="")
    print(f"{NUM_SUB_CLIPS} sub-clips of {SUB_CLIP_SECONDS:g} s, {arguments.precision}\n")
    header = ("training step", "median ms", "pairwise ratio", "of processor time", "peak MiB", "GFLOP per prediction")
    print_table("two_streams_details", header, rows, arguments.record)
    if arguments.record:
        record("two_streams", SUMMARY, [summarize(arguments, rows)])
    if counts_operations:
        backbone_operations, gl_at_operations = operations["backbone alone"], operations["joint, selected on log-mel"]
        width, count = find_equal_width(arguments, num_samples, backbone_operations, gl_at_operations)
        print(f"\nbackbone alone at width {width:g}: {count:.2f} GFLOP, as many as both streams at {arguments.width:g}")


if __name__ == "__main__":
    main()
