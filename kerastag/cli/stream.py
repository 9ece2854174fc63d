"""What `kerastag stream` takes, and how it is run: flags over a TOML, lines for people on standard error."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

__all__ = ["add_flags", "stream"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag; what is not given is left to the TOML and the settings' own defaults."""

    def flag(name: str, text: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", help=text, default=argparse.SUPPRESS, **options)

    number = {"type": float, "metavar": "P"}
    seconds = {"type": float, "metavar": "S"}
    parser.add_argument("--config", metavar="TOML", help="settings, by the names of these flags; flags win")
    flag("model", "a .tflite tagger, or with --head an embedder (default: esc10, in the package)", metavar="TFLITE")
    flag("head", "a .tflite file from embeddings to tags", metavar="TFLITE")
    flag("source", "mic, mic:NAME, mic:NUMBER, a recording, a URL (rtsp://...), or - for raw PCM or WAV (default: mic)")
    flag(
        "output",
        "json:FILE, csv:FILE (- is standard output), terminal, mqtt://HOST/TOPIC, mqtts://..., record:FOLDER; several "
        "with commas between, or the flag again (default: terminal)",
        action="append",
    )
    flag("classes", "names or MIDs of the classes to listen for (default: all)", nargs="+", metavar="CLASS")
    flag("top", "tags of a result at most (default: 5)", type=int)
    flag("threshold", "probability at which an event begins (default: the model's, class by class)", **number)
    flag("off_threshold", "probability below which it ends (default: half of that)", **number)
    flag("smoothing_seconds", "length of the median filter over time (default: 0)", **seconds)
    flag("min_seconds", "shortest event (default: 0)", **seconds)
    flag("max_gap_seconds", "longest pause inside an event (default: 0)", **seconds)
    flag("refractory_seconds", "shortest time between two events of a class (default: 0)", **seconds)
    flag("mode", "default: incremental with a head, windowed without", choices=("auto", "windowed", "incremental"))
    flag("hop_seconds", "from one result to the next", **seconds)
    flag("threads", "threads of the interpreter (default: 1)", type=int)
    flag("realtime", "a recording sounds at its own pace; - is live: who is late loses audio", action="store_true")
    flag("encoding", "of raw PCM, as arecord -f names it (default: S16_LE)")
    flag("rate", "Hz; of raw PCM (default: 16000), or what a microphone is asked for (default: the model's)", type=int)
    flag("channels", "of raw PCM or a microphone (default: 1)", type=int)
    flag("queue_seconds", "audio that may wait before the oldest is dropped (default: 10)", **seconds)
    flag("stats", "speed, losses, latency, memory: at the end, and every S seconds", nargs="?", const=0.0, **seconds)


def stream(arguments: argparse.Namespace) -> None:
    """Parsed flags -> the stream, until it ends."""
    from kerastag.audio import AudioWarning
    from kerastag.edge.service import run_stream
    from kerastag.edge.settings import StreamSettings

    flags = {name: value for name, value in vars(arguments).items() if name in StreamSettings.__dataclass_fields__}
    if "output" in flags:
        flags["output"] = [part for text in flags["output"] for part in text.split(",")]
    settings = StreamSettings.read(arguments.config, flags)
    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        warnings.showwarning = lambda message, *_: _say(str(message))
        run_stream(settings, _say)
    _let_go_of_standard_output()


def _say(line: str) -> None:
    """One line for people, whole even where several threads speak."""
    sys.stderr.write(f"kerastag stream: {' '.join(line.split())}\n")
    sys.stderr.flush()


def _let_go_of_standard_output() -> None:
    """Python flushes it when it ends, and complains where nobody reads: that was noticed before, and is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
