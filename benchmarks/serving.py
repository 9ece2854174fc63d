"""Throughput, latency, start and memory of `kerastag serve`, beside a bare LiteRT loop and LitServe.

    python benchmarks/serving.py --model mn04_as.tflite [--seconds 60] [--rounds 3] [--litserve PYTHON]
    python benchmarks/serving.py --model mn04_as.tflite --only memory [--requests 20000]

Clients post WAV files of ten seconds, one request after the other. The three variants run in turns: interpreters with
one thread each in as many processes as there are cores, which only call the model; the server; and LitServe around the
same file with as many workers (`--litserve` is a Python with litserve, ai-edge-litert and soundfile). The clients share
the cores with the servers. Results are valid only on an otherwise idle machine.
"""

import argparse
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import soundfile
from _figures import Table, add_record_flag, print_table
from _http_load import Load, apply_load, build_request

from kerastag.card import Card

_FOLDER = Path(__file__).resolve().parent
_CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Measure what is selected and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A .tflite file that takes waveforms.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Duration of a round (default: %(default)g).")
    parser.add_argument("--rounds", type=int, default=3, help="Number of rounds (default: %(default)s).")
    parser.add_argument("--clients", type=int, default=8, help="Number of clients (default: %(default)s).")
    parser.add_argument("--litserve", metavar="PYTHON", help="Python that has litserve (default: no LitServe).")
    parser.add_argument("--requests", type=int, default=20_000, help="Requests of the memory test (default: 20,000).")
    parser.add_argument("--only", choices=["throughput", "start", "memory"], help="The only measurement to make.")
    parser.add_argument("--loop", type=float, help=argparse.SUPPRESS)
    add_record_flag(parser)
    args = parser.parse_args()
    if args.loop:
        print(run_bare_loop(args.model, args.loop))
        return
    if args.only in (None, "throughput"):
        print_table("serving", *measure_throughput(args), args.record)
        print()
    if args.only in (None, "start"):
        print_table("serving_start", *measure_start(args.model), args.record)
        print()
    if args.only in (None, "memory"):
        print_table("serving_memory", *measure_memory(args.model, args.requests, args.clients), args.record)
        print()
    print(f"{_CORES} cores, load average {os.getloadavg()[0]:.1f} at the end")


def measure_throughput(args: argparse.Namespace) -> Table:
    """Return a table of requests per second and latencies, the median over the rounds."""
    recording = encode_clip(Card.read(args.model).sample_rate, 10.0)
    variants: dict[str, Callable[[], Load]] = {
        "bare LiteRT loop": lambda: measure_bare_loop(args.model, args.seconds),
        "kerastag serve": lambda: measure_server(
            create_command(args.model), "/v1/tag", "file", recording, args.clients, args.seconds
        ),
    }
    if args.litserve:
        command = [args.litserve, os.fspath(_FOLDER / "_litserve.py"), args.model, "PORT", str(_CORES)]
        variants["LitServe"] = lambda: measure_server(
            command, "/predict", "request", recording, args.clients, args.seconds
        )
    rounds = [{name: measure() for name, measure in variants.items()} for _ in range(args.rounds)]
    rows = []
    for name in variants:
        loads = [each[name] for each in rounds]
        shares = [load.rate / each["bare LiteRT loop"].rate for load, each in zip(loads, rounds, strict=True)]
        p50, p99 = (statistics.median(load.percentile(percent) for load in loads) for percent in (50, 99))
        processor = statistics.median(load.processor_seconds / len(load.latencies) for load in loads)
        rate = statistics.median(load.rate for load in loads)
        failures = sum((load.failures for load in loads), Counter())
        cells = (f"{rate:.1f}", f"{statistics.median(shares):.0%}", f"{p50:.0f} ms", f"{p99:.0f} ms")
        rows.append((name, *cells, f"{1e3 * processor:.0f} ms", json.dumps(failures) if failures else "0"))
    title = f"{args.clients} clients, clips of 10 s"
    header = (
        title,
        "requests per second",
        "share of the loop",
        "p50",
        "p99",
        "processor time of a request",
        "failures",
    )
    return header, rows


def measure_bare_loop(model: str, seconds: float) -> Load:
    """Return what one process per core measures that only calls the model."""
    command = [sys.executable, __file__, "--model", model, "--loop", str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(_CORES)]
    load = Load(seconds)
    for process in processes:
        result = json.loads(process.communicate()[0])
        load.latencies += result["latencies"]
        load.processor_seconds += result["processor_seconds"]
    return load


def run_bare_loop(model: str, seconds: float) -> str:
    """Call an interpreter with one thread until the time is over, and return the latencies as JSON."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model, num_threads=1).get_signature_runner()
    waveform = make_clip(Card.read(model).sample_rate, 10.0)[None]
    run(waveform=waveform)
    processor_start, end, latencies = time.process_time(), time.perf_counter() + seconds, []
    while (start := time.perf_counter()) < end:
        run(waveform=waveform)
        latencies.append(time.perf_counter() - start)
    return json.dumps({"latencies": latencies, "processor_seconds": time.process_time() - processor_start})


def measure_server(
    command: list[str], path: str, field_name: str, recording: bytes, clients: int, seconds: float
) -> Load:
    """Return what clients measure that post a recording to a server, after a tenth of the time as a warm-up."""
    with start_server(command) as (process, port):
        request = build_request(path, field_name, recording)
        wait_for(lambda: apply_load(port, request, 1, 60.0, 1).latencies)
        apply_load(port, request, clients, seconds / 10)
        before = measure_processor_seconds(process.pid)
        load = apply_load(port, request, clients, seconds)
        load.processor_seconds = measure_processor_seconds(process.pid) - before
        return load


def measure_start(model: str) -> Table:
    """Return a table of the time from the start to readiness, and of the memory then and when idle."""
    seconds, sizes = [], []
    for _ in range(5):
        start = time.perf_counter()
        with start_server(create_command(model)) as (process, port):
            wait_for(lambda port=port: is_ready(port), interval=0.005)
            seconds.append(time.perf_counter() - start)
            time.sleep(2)
            sizes.append(measure_resident_mb(process.pid))
    server, helpers = (statistics.median(each[i] for each in sizes) for i in (0, 1))
    rows = [
        ("cold start to ready, median of 5", f"{statistics.median(seconds):.2f} s"),
        ("cold start to ready, slowest of 5", f"{max(seconds):.2f} s"),
        ("resident when idle, server", f"{server:.0f} MB"),
        ("resident when idle, its decoders", f"{helpers:.0f} MB"),
    ]
    return ("start", "measured"), rows


def measure_memory(model: str, num_requests: int, clients: int) -> Table:
    """Return a table of the memory while clients send many requests, with clips of one second."""
    request = build_request("/v1/tag", "file", encode_clip(Card.read(model).sample_rate, 1.0))
    rows = []
    with start_server(create_command(model)) as (process, port):
        wait_for(lambda: is_ready(port))
        total = 0
        for part in range(11):  # the first part warms up
            size = max(1, num_requests // 10)
            load = apply_load(port, request, clients, 3_600.0, size)
            total += len(load.latencies)
            time.sleep(1)
            server, helpers = measure_resident_mb(process.pid)
            failures = sum(load.failures.values())
            rows.append((f"{total:,}", f"{server:.1f} MB", f"{helpers:.1f} MB", str(failures), server + helpers))
            print(f"memory: part {part}: {rows[-1]}", file=sys.stderr, flush=True)
    header = ("requests", "server", "decoders", "failures", "growth")
    return header, [(*row[:4], f"{row[4] / rows[0][4] - 1:.1%}") for row in rows]


def measure_processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of all processes below it."""
    ticks = 0
    for each in [pid, *list_descendants(pid)]:
        fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_resident_mb(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process and of all processes below it, in megabytes."""
    sizes = [read_resident_mb(each) for each in [pid, *list_descendants(pid)]]
    return sizes[0], sum(sizes[1:])


def read_resident_mb(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith("VmRSS"))


def list_descendants(pid: int) -> list[int]:
    """Return the numbers of all processes below a process."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text(encoding="utf-8").split()]
    return children + [each for child in children for each in list_descendants(child)]


def create_command(model: str) -> list[str]:
    """Return the command that starts the server on the port `PORT`."""
    return [sys.executable, "-m", "kerastag", "serve", "--model", f"model={model}", "--port", "PORT"]


@contextmanager
def start_server(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a server on a free port, and kill it and its processes at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in command],
            stdout=log,
            stderr=log,
            start_new_session=True,
            encoding="utf-8",
        )
        try:
            yield process, port
        except BaseException:
            log.seek(0)
            print(log.read()[-4_000:], file=sys.stderr)
            raise
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_ready(port: int) -> bool:
    """Return whether a server has loaded its models."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def wait_for(condition: Callable[[], object], seconds: float = 60.0, interval: float = 0.2) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server did not answer within {seconds:g} s")
        time.sleep(interval)


def make_clip(sample_rate: int, seconds: float) -> np.ndarray:
    """Make bursts of noise, float32 `(samples,)`."""
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.uniform(0, 0.2, 20), round(sample_rate * seconds) // 20)
    return (levels * rng.standard_normal(len(levels))).clip(-1, 1).astype(np.float32)


def encode_clip(sample_rate: int, seconds: float) -> bytes:
    """Return a clip as the content of a WAV file with 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, make_clip(sample_rate, seconds), sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


if __name__ == "__main__":
    main()
