"""Unmodified commands that write packs: killed at a system call, two at once, and on a full disk, then run again."""

import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

_RATE = 8_000
_CALLS = "write,fsync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir"


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Pack recordings and make soundscapes; `quick` tries a few moments."""
    with tempfile.TemporaryDirectory() as folder:
        audio_dir = _write_recordings(Path(folder) / "audio")
        for name, arguments in {
            "pack audio": ["pack", "audio", "--audio-dir", audio_dir, "--clip-seconds", "1", "--output", "OUT/a.h5"],
            "make-soundscapes": [
                "make-soundscapes",
                "--synthetic",
                "--count",
                "40",
                "--soundscape-seconds",
                "1",
                "--output",
                "OUT",
            ],
        }.items():
            command = _Command([*arguments, "--sample-rate", str(_RATE)], Path(folder))
            if shutil.which("strace"):
                yield _kill(name, command, tries=3 if quick else 40)
            yield _run_two(name, command, tries=2 if quick else 10)
            yield _fill_disk(name, command, tries=2 if quick else 12)


class _Command:
    """A command of kerastag that writes into the folder OUT, and the files of an undisturbed call."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self._arguments, self._folder = arguments, folder
        self.output = self.make_output()
        assert self.run(self.output) == 0
        self.expected = self.read(self.output)

    def make_output(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))

    def start(
        self, output: Path, prefix: tuple[str, ...] = (), prepare: Callable[[], object] | None = None
    ) -> subprocess.Popen:
        arguments = [argument.replace("OUT", str(output)) for argument in self._arguments]
        command = [*prefix, sys.executable, "-m", "kerastag", *arguments]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, **streams, preexec_fn=prepare, text=True)

    def run(self, output: Path, prefix: tuple[str, ...] = ()) -> int:
        process = self.start(output, prefix)
        process.communicate()
        return process.returncode

    def describe_difference(self, output: Path) -> str:
        """Run the command again, and describe what differs from an undisturbed call."""
        if status := self.run(output):
            return f"status {status} of the next call"
        return "" if self.read(output) == self.expected else "other files"

    def read(self, output: Path) -> dict[str, bytes]:
        return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def _write_recordings(folder: Path) -> str:
    random = np.random.default_rng(0)
    for number in range(102):
        path = folder / ("Dog", "Rain", "Siren")[number % 3] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, random.uniform(-0.5, 0.5, _RATE), _RATE)
    return str(folder)


def _kill(name: str, command: _Command, tries: int) -> tuple[str, int, int, str]:
    """Kill the command at system calls that are spread over those on files of the output folder."""
    log = command.make_output() / "log"
    output = command.make_output()
    command.run(output, ("strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={_CALLS}"))
    calls = [line.split(maxsplit=1) for line in log.read_text(errors="replace", encoding="utf-8").splitlines()]
    numbers, counts = [], Counter[tuple[str, str]]()
    for thread, call in calls:
        system_call = call.partition("(")[0]
        counts[thread, system_call] += 1  # strace counts the calls of each thread, too.
        if str(output) in call:
            numbers.append((system_call, counts[thread, system_call]))
    reasons, kills = [], 0
    for i in np.linspace(0, len(numbers) - 1, min(tries, len(numbers))).astype(int):
        system_call, number = numbers[i]
        output = command.make_output()
        inject = f"inject={system_call}:signal=SIGKILL:when={number}"
        options = ("-f", "-qq", "-o", "/dev/null", "-e", f"trace={system_call}", "-e", inject)
        kills += command.run(output, ("strace", *options)) in (-9, 137)
        if difference := command.describe_difference(output):
            reasons.append(f"{system_call} {number}: {difference}")
        shutil.rmtree(output)
    return f"kill -9 in `{name}` at a system call", kills, len(reasons), "; ".join(reasons[:3])


def _run_two(name: str, command: _Command, tries: int) -> tuple[str, int, int, str]:
    reasons = []
    for attempt in range(tries):
        output = command.make_output()
        processes = [command.start(output) for _ in range(2)]
        errors = [process.communicate()[1] for process in processes]
        for process, error in zip(processes, errors, strict=True):
            if process.returncode and "is being written by process" not in error:
                reasons.append(f"try {attempt}: {error.strip()[-200:]}")
        if all(process.returncode for process in processes) or command.read(output) != command.expected:
            reasons.append(f"try {attempt}: other files")
        shutil.rmtree(output)
    return f"two `{name}` to one output", tries, len(reasons), "; ".join(reasons[:3])


def _fill_disk(name: str, command: _Command, tries: int) -> tuple[str, int, int, str]:
    """Let files of more than a number of bytes fail, as a full disk does."""
    reasons = []
    largest = max(map(len, command.expected.values()))
    for size in np.linspace(1, largest - 1, tries).astype(int).tolist():
        output = command.make_output()
        process = command.start(output, prepare=lambda: _limit_files(size))  # noqa: B023
        error = process.communicate()[1]
        if process.returncode != 1 or error.count("\n") != 1 or "the disk is full" not in error:
            reasons.append(f"{size} bytes: status {process.returncode}: {error.strip()[-200:]}")
        if difference := command.describe_difference(output):
            reasons.append(f"{size} bytes: {difference}")
        shutil.rmtree(output)
    return f"`{name}` on a full disk, then with room", tries, len(reasons), "; ".join(reasons[:3])


def _limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
