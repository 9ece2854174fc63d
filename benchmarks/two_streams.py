"""A training step of GL-AT beside one of its backbone alone: time, memory and operations.

    python benchmarks/two_streams.py [--backbone cnn10] [--width 0.25] [--batch_size 16] [--precision float32]

The same clips for all, their front end included; the backbone also with Keras's own batch normalization. Steps of all
variants alternate in one process; each variant's peak memory is that of a process of its own. Operations are counted in
TensorFlow's graph of one prediction, and of what a backbone alone would have to be to take as many: its width is
printed too. On another backend than TensorFlow they are left out.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from kerastag._command import prepare_tensorflow

prepare_tensorflow()

SECONDS = 10.0
NUM_CLASSES = 10
CLIPS, CLIP_SECONDS = 5, 3.0
KERAS_BATCH_NORM = "backbone alone, Keras's BatchNormalization"
# Name -> how the streams are made; None is the backbone alone.
VARIANTS = {
    "backbone alone": None,
    KERAS_BATCH_NORM: None,
    "joint, selected on log-mel": {"select": "log_mel"},
    "joint, selected on the waveform": {"select": "waveform"},
    "global stream frozen, log-mel": {"select": "log_mel", "freeze_global": True},
}


def build(arguments: argparse.Namespace, variant: str, width: float | None = None):
    """A variant's name -> the model, waveform in."""
    from kerastag.models import MODELS

    settings = {"num_classes": NUM_CLASSES, "width": width or arguments.width, "input": "waveform"}
    if VARIANTS[variant] is None:
        model = MODELS[arguments.backbone].build(**settings)
        return with_keras_batch_norm(model) if variant == KERAS_BATCH_NORM else model
    windows = {"num_sub_clips": CLIPS, "sub_clip_seconds": CLIP_SECONDS}
    return MODELS[f"gl_at_{arguments.backbone}"].build(**settings, **windows, **VARIANTS[variant])


def with_keras_batch_norm(model):
    """A backbone -> the same with Keras's own batch normalization."""
    import keras

    from kerastag.layers.fused_batch_normalization import FusedBatchNormalization

    def plain(layer):
        fused = isinstance(layer, FusedBatchNormalization)
        return (keras.layers.BatchNormalization if fused else type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=plain)


def clips(arguments: argparse.Namespace):
    """A batch of noise and targets."""
    import numpy as np

    from kerastag.dsp import FRONT_ENDS
    from kerastag.models import MODELS

    rate = FRONT_ENDS[MODELS[arguments.backbone].front_end].sample_rate
    random = np.random.default_rng(0)
    waveform = 0.1 * random.standard_normal((arguments.batch_size, int(SECONDS * rate))).astype(np.float32)
    return waveform, (random.random((arguments.batch_size, NUM_CLASSES)) < 0.2).astype(np.float32)


def stepper(arguments: argparse.Namespace, variant: str, batch):
    """A function that makes one training step and returns its seconds on the wall and of the processor."""
    import keras

    from kerastag.training.fit import compiled
    from kerastag.training.outputs import select_training_outputs
    from kerastag.training.settings import TrainingSettings

    keras.config.set_dtype_policy(arguments.precision)
    model = compiled(select_training_outputs(build(arguments, variant)), TrainingSettings())

    def step() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        model.train_on_batch(*batch)
        return time.perf_counter() - wall, time.process_time() - processor

    step()
    step()
    return step


def operations(model, samples: int) -> float:
    """Multiplications and additions of one prediction, in thousand millions."""
    import tensorflow as tf

    function = tf.function(lambda x: model(x)["clipwise"]).get_concrete_function(tf.TensorSpec((1, samples)))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops / 1e9


def equal_width(arguments: argparse.Namespace, samples: int, alone: float, wanted: float) -> tuple[float, float]:
    """The narrowest backbone, in hundredths, that takes as many operations alone, and how many it takes.

    They grow with nearly the square of the width, which says about where to look.
    """
    taken = {round(100 * arguments.width): alone}

    def count(hundredths: int) -> float:
        if hundredths not in taken:
            taken[hundredths] = operations(build(arguments, "backbone alone", hundredths / 100), samples)
        return taken[hundredths]

    width = round(100 * arguments.width)
    for _ in range(2):
        width = round(width * (wanted / count(width)) ** 0.5)
    while count(width) < wanted:
        width += 1
    while count(width - 1) >= wanted:
        width -= 1
    return width / 100, count(width)


def peak_memory(arguments: argparse.Namespace, variant: str) -> float:
    """A variant's name -> MiB that a process needs for its training steps."""
    words = [sys.executable, __file__, "--memory_of", variant]
    for name in ("backbone", "width", "batch_size", "precision"):
        words += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="cnn10", choices=("talnet", "cnn10", "resnet38", "at_sca", "mn"))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory_of", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batch = clips(arguments)
    if arguments.memory_of:
        stepper(arguments, arguments.memory_of, batch)()
        # Not `ru_maxrss`, which a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        return
    import keras

    from kerastag.recipes._run import versions

    steps = {name: stepper(arguments, name, batch) for name in VARIANTS}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            seconds[name].append(step())
    counted = keras.backend.backend() == "tensorflow"
    samples = batch[0].shape[1]
    taken = {name: operations(build(arguments, name), samples) if counted else 0.0 for name in VARIANTS}
    print(" · ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"{arguments.backbone}, width {arguments.width:g}, {arguments.batch_size} clips of {SECONDS:g} s, ", end="")
    print(f"{CLIPS} sub-clips of {CLIP_SECONDS:g} s, {arguments.precision}\n")
    print("| training step | median ms | ratio, pair by pair | of processor time | peak MiB | GFLOP a prediction |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = seconds["backbone alone"]
    for name, found in seconds.items():
        wall, processor = (statistics.median(a[i] / b[i] for a, b in zip(found, first, strict=True)) for i in range(2))
        median = 1e3 * statistics.median(wall_seconds for wall_seconds, _ in found)
        memory = peak_memory(arguments, name)
        print(f"| {name} | {median:.0f} | {wall:.2f} | {processor:.2f} | {memory:.0f} | {taken[name]:.2f} |")
    if counted:
        width, alone = equal_width(arguments, samples, taken["backbone alone"], taken["joint, selected on log-mel"])
        print(f"\nalone at width {width:g}: {alone:.2f} GFLOP, as many as two streams at width {arguments.width:g}")


if __name__ == "__main__":
    main()
