"""Speed, memory and restart of `kerastag archive`, beside a plain loop around ai_edge_litert.

    python benchmarks/archive_speed.py --model mn04.tflite [--clips 10000] [--rounds 3] [--workers 1 2]
    python benchmarks/archive_speed.py --model mn04.tflite --restart 1000000
    python benchmarks/archive_speed.py --model mn04.tflite --long-hours 24

The loop reads each clip with soundfile, runs the interpreter on one thread, and keeps the five most probable classes;
it loads the model before its time begins. The time of the archive is that of the whole command, and its speed that
which remains without the seconds until the first shard of an archive of one clip is written. Both take turns. Results
are valid only on an otherwise idle machine. `python benchmarks/faults kill_archives` kills archives.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
from _figures import add_record_flag, print_table

_ROOT = Path(__file__).resolve().parents[1]
_RATE, _CLIP_SECONDS = 32_000, 10
_NUM_SOUNDS = 50
_FILES_PER_FOLDER = 1_000


def main() -> None:
    """Run one kind of measurement and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A .tflite file of 32 kHz, such as mn04_as as `any_length`.")
    parser.add_argument("--clips", type=int, default=10_000, help="Clips of ten seconds (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=3, help="Turns of each (default: %(default)s).")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="Processes (default: 1 and 2).")
    parser.add_argument("--restart", type=int, metavar="FILES", help="Time a finished run of so many listed files.")
    parser.add_argument("--long-hours", type=float, metavar="HOURS", help="Measure the memory for one long recording.")
    add_record_flag(parser)
    args = parser.parse_args()
    model = os.fspath(Path(args.model).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.restart:
            measure_restart(folder, model, args.restart, args.record)
        elif args.long_hours:
            measure_memory(folder, model, args.long_hours, args.record)
        else:
            write_clips(folder / "clips", args.clips)
            measure_speed(folder, model, args.clips, args.rounds, args.workers, args.record)


def write_clips(folder: Path, count: int) -> None:
    """Write FLAC clips of bursts of noise; links share the content of a few."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // _FILES_PER_FOLDER:04d}" / f"{number:07d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < _NUM_SOUNDS:
            bursts = np.repeat(rng.uniform(0, 0.2, 2 * _CLIP_SECONDS), _RATE // 2)
            soundfile.write(path, (bursts * rng.standard_normal(len(bursts))).clip(-1, 1), _RATE)
        else:
            number %= _NUM_SOUNDS
            shutil.copyfile(folder / "0000" / f"{number:07d}.flac", path)


def measure_speed(folder: Path, model: str, count: int, rounds: int, workers: list[int], is_recorded: bool) -> None:
    """Let the loop and the archive take turns, and print the speed of both per core."""
    paths = sorted(map(os.fspath, (folder / "clips").rglob("*.flac")))
    (folder / "one").mkdir()
    shutil.copyfile(paths[0], folder / "one" / "clip.flac")
    rows = []
    for num_workers in workers:
        speeds: dict[str, list[float]] = {"loop": [], "archive": [], "command": []}
        growth = []
        for number in range(rounds):
            seconds = time_loop(paths, model, num_workers)
            speeds["loop"].append(count * _CLIP_SECONDS / seconds / num_workers)
            start, _ = time_archive(folder, "one", f"start{num_workers}-{number}", model, num_workers)
            seconds, memory = time_archive(folder, "clips", f"out{num_workers}-{number}", model, num_workers)
            speeds["command"].append(count * _CLIP_SECONDS / seconds / num_workers)
            speeds["archive"].append((count - 1) * _CLIP_SECONDS / (seconds - start) / num_workers)
            growth += [memory.compute_growth()]
        loop, archive, command = (statistics.median(values) for values in speeds.values())
        memory_text = f"{memory.peak_mb:.0f} MB, {max(growth):+.1%}"
        rows.append(
            (
                f"{count:,}, {num_workers}",
                f"{loop:.0f}",
                f"{archive:.0f}",
                f"{archive / loop:.1%}",
                f"{command / loop:.1%}",
                memory_text,
            )
        )
    header = (
        f"clips of {_CLIP_SECONDS} s, processes",
        "loop",
        "archive",
        "archive / loop",
        "with the start",
        "memory of a process, growth",
    )
    print(f"times real time per core, {count:,} clips, load average {os.getloadavg()[0]:.1f} at the end\n")
    print_table("archive", header, rows, is_recorded)


def time_loop(paths: list[str], model: str, num_workers: int) -> float:
    """Return the longest time in which a process tags its share of the clips in a plain loop."""
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        barrier = time.time() + 5 + num_workers
        shares = [(paths[k::num_workers], model, barrier) for k in range(num_workers)]
        return max(pool.map(_run_loop, shares))


def _run_loop(share: tuple[list[str], str, float]) -> float:
    from ai_edge_litert.interpreter import Interpreter

    paths, model, barrier = share
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    runner(waveform=np.zeros((1, _RATE * _CLIP_SECONDS), np.float32))
    time.sleep(max(0.0, barrier - time.time()))
    start, tags = time.perf_counter(), []
    for path in paths:
        waveform, _ = soundfile.read(path, dtype="float32")
        probabilities = runner(waveform=waveform[None])["clipwise"][0]
        top = np.argsort(-probabilities)[:5]
        tags.append((path, top, probabilities[top]))
    return time.perf_counter() - start


def time_archive(folder: Path, source: str, output: str, model: str, num_workers: int) -> tuple[float, "MemoryLog"]:
    """Return the time of the whole command, and the memory of its processes."""
    command = [sys.executable, "-m", "kerastag", "archive", source, "--output", output, "--model", model]
    command += ["--top", "5", "--jobs", str(num_workers)]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=_make_environment(), stdout=subprocess.DEVNULL) as process:
        memory = MemoryLog(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"the archive of {source} ended with status {process.returncode}")
    return seconds, memory


class MemoryLog:
    """Resident memory of the processes that tag for a command, twice per second until it ends."""

    def __init__(self, process: subprocess.Popen) -> None:
        sys.path.append(os.fspath(_ROOT / "tests"))
        from archive.kills import find_workers

        self._values: dict[int, list[float]] = {}
        is_done = threading.Event()

        def watch() -> None:
            while not is_done.wait(0.5):
                for pid in find_workers(process.pid):
                    try:
                        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
                    except OSError:
                        continue
                    kilobytes = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
                    self._values.setdefault(pid, []).extend(each / 1e3 for each in kilobytes)

        thread = threading.Thread(target=watch)
        thread.start()
        process.wait()
        is_done.set()
        thread.join()

    @property
    def peak_mb(self) -> float:
        """Largest memory of a process, MB."""
        return max((max(values) for values in self._values.values()), default=float("nan"))

    def compute_growth(self) -> float:
        """Compute the largest growth of the memory of a process from its second to its last quarter, as a share."""
        growths = [0.0]
        for values in self._values.values():
            if (quarter := len(values) // 4) >= 2:
                growths.append(max(values[-quarter:]) / max(values[quarter : 2 * quarter]) - 1)
        return max(growths)


def measure_memory(folder: Path, model: str, hours: float, is_recorded: bool) -> None:
    """Archive one long recording with every table and class, and print the memory over time."""
    (folder / "long").mkdir()
    rng = np.random.default_rng(0)
    minute = (np.repeat(rng.uniform(0, 0.2, 120), _RATE // 2) * rng.standard_normal(60 * _RATE)).clip(-1, 1)
    with soundfile.SoundFile(folder / "long" / "long.flac", "w", _RATE, 1) as file:
        for _ in range(round(60 * hours)):
            file.write(minute)
    command = [sys.executable, "-m", "kerastag", "archive", "long", "--output", "out", "--model", model, "--jobs", "1"]
    command += ["--threshold", "0", "--events", "--embeddings"]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=_make_environment(), stdout=subprocess.DEVNULL) as process:
        memory = MemoryLog(process)
    seconds = time.perf_counter() - start
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    rows = [
        ("audio", f"{report['audio_hours']:.1f} h"),
        ("time", f"{seconds:.0f} s, status {process.returncode}"),
        ("rows", ", ".join(f"{name} {count:,}" for name, count in report["rows"].items())),
        ("memory of the process that tags, growth", f"{memory.peak_mb:.0f} MB, {memory.compute_growth():+.1%}"),
        ("largest memory of a process of the command", f"{measure_children():.0f} MB"),
    ]
    print_table("archive_memory", ("one long recording", "measured"), rows, is_recorded)


def measure_children() -> float:
    """Return the peak memory of the largest child process, MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def measure_restart(folder: Path, model: str, count: int, is_recorded: bool) -> None:
    """Make so many small files, mark their archive as finished, and time the same command again.

    The last shard is really written; the records of the others are copies of its record.
    """
    from kerastag.archive.manifest import Manifest
    from kerastag.archive.shards import get_record_path
    from kerastag.files import write_json

    (folder / "clips").mkdir()
    soundfile.write(folder / "clips" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(_RATE), _RATE)
    content = (folder / "clips" / "a.wav").read_bytes()[:46]
    for number in range(count - 1):
        path = folder / "clips" / f"{number // _FILES_PER_FOLDER:04d}" / f"{number:07d}.wav"
        if number % _FILES_PER_FOLDER == 0:
            path.parent.mkdir()
        with path.open("wb") as file:
            file.write(content)
    command = [sys.executable, "-m", "kerastag", "archive", "clips", "--output", "out", "--model", model]
    rows = [("plan", run_timed([*command, "--plan-only"], folder))]
    shards = Manifest(folder / "out").num_shards
    run_timed([*command, "--shard", f"{shards}/{shards}"], folder)
    record = json.loads(get_record_path(folder / "out", shards - 1).read_text(encoding="utf-8"))
    for shard in range(shards - 1):
        write_json(get_record_path(folder / "out", shard), {**record, "shard": shard})
    rows += [(f"restart {number}", run_timed(command, folder)) for number in (1, 2, 3)]
    print(f"{count:,} listed files in {shards:,} shards, load average {os.getloadavg()[0]:.1f} at the end\n")
    cells = [(name, f"{seconds:.1f}") for name, seconds in rows]
    print_table("archive_restart", ("command", "seconds"), cells, is_recorded)


def run_timed(command: list[str], folder: Path) -> float:
    """Run a command and return its time in seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=_make_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _make_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))}


if __name__ == "__main__":
    main()
